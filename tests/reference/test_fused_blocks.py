"""mindone's blocks, fused and not: equal results where a guard lets them be fused, and a reason where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mindspore")

pytestmark = [pytest.mark.mindspore, pytest.mark.usefixtures("fused")]

Array = np.ndarray[Any, Any]

# Of blocks whose values are of size 1: sums in another order, and MindSpore's exp, which is 5e-6 off.
TOLERANCE = 5e-5


@pytest.fixture(scope="module", name="fused")
def _fused(cpu: None) -> Any:
    """The kernels of this process; skip where they were not built."""
    from ddim_core.sampling.device import quiet_import
    from ddim_core.sampling.fused.operators import operators

    kernels = operators()
    if kernels is None:
        pytest.skip("the fused kernels were not built: python hatch_build.py native")
    with quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ddim_core.sampling.fused import swap

    return swap, kernels


def randomised(block: Any) -> Any:
    """Give every parameter values of its own: norms begin with ones and zeros."""
    import mindspore as ms

    random = np.random.default_rng(1)
    for parameter in block.get_parameters():
        fan_in = max(int(np.prod(parameter.shape[1:])), 1)
        value = random.standard_normal(parameter.shape) / np.sqrt(fan_in) + (parameter.ndim == 1)
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return block.set_train(False)


def normal(*shape: int) -> Any:
    import mindspore as ms

    return ms.Tensor(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32))


def resnet(**options: Any) -> Any:
    from mindone.diffusers.models.resnet import ResnetBlock2D

    return randomised(ResnetBlock2D(**{"in_channels": 32, "out_channels": 32, "temb_channels": 64, **options}))


def transformer(**options: Any) -> Any:
    from mindone.diffusers.models.transformers.transformer_2d import Transformer2DModel

    fitting = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 32, "cross_attention_dim": 24}
    return randomised(Transformer2DModel(**{**fitting, **options}))


def upsample(**options: Any) -> Any:
    from mindone.diffusers.models.upsampling import Upsample2D

    return randomised(Upsample2D(**{"channels": 8, "use_conv": True, "out_channels": 12, **options}))


def downsample(**options: Any) -> Any:
    from mindone.diffusers.models.downsampling import Downsample2D

    return randomised(Downsample2D(**{"channels": 8, "use_conv": True, "out_channels": 12, **options}))


def changed(make: Callable[..., Any], **attributes: Any) -> Callable[[], Any]:
    """Return what makes a block with attributes, named with dots, of other values."""

    def changed_block() -> Any:
        block = make()
        for path, value in attributes.items():
            *parents, name = path.split("__")
            owner = block
            for parent in parents:
                owner = owner[int(parent)] if parent.isdigit() else getattr(owner, parent)
            setattr(owner, name, value)
        return block

    return changed_block


TEXT = (2, 7, 24)
FITTING: dict[str, tuple[Callable[[], Any], Callable[[], tuple[Any, ...]]]] = {
    "resnet": (resnet, lambda: (normal(2, 32, 5, 6), normal(2, 64))),
    "resnet with a shortcut": (lambda: resnet(out_channels=64), lambda: (normal(2, 32, 8, 8), normal(2, 64))),
    "resnet of a VAE": (lambda: resnet(temb_channels=None, groups=8), lambda: (normal(2, 32, 5, 6), None)),
    "resnet of a decoder": (
        lambda: resnet(temb_channels=None, time_embedding_norm="group"),
        lambda: (normal(2, 32, 5, 6), None),
    ),
    "transformer": (transformer, lambda: (normal(2, 32, 5, 6), normal(*TEXT))),
    "linear projections": (
        lambda: transformer(use_linear_projection=True),
        lambda: (normal(2, 32, 4, 4), normal(*TEXT)),
    ),
    "upsample": (upsample, lambda: (normal(2, 8, 5, 6),)),
    "downsample": (downsample, lambda: (normal(2, 8, 5, 6),)),
    "downsample of a VAE": (lambda: downsample(padding=0), lambda: (normal(2, 8, 5, 6),)),
}


ODD = (9, 11)


def test_sizes_that_do_not_double_keep_mindones_pixels(fused: Any) -> None:
    """Of an odd number of latents the UNet asks for a pixel less than twice as many; large maps are MindSpore's."""
    swap, kernels = fused
    for make, inputs in (
        (upsample, (normal(2, 8, 5, 6), ODD)),
        (upsample, (normal(2, 8, 5, 6), (10, 12))),
        (lambda: upsample(channels=320), (normal(1, 320, 3, 60),)),
    ):
        block = make()
        expected = flat(block(*inputs))
        swap._fuse_blocks(block, kernels)
        assert np.abs(flat(block(*inputs)) - expected).max() < TOLERANCE


def flat(result: Any) -> Array:
    array: Array = (result[0] if isinstance(result, tuple) else result).asnumpy()
    return array


@pytest.mark.parametrize("name", FITTING)
def test_a_fused_block_gives_what_mindones_gives(name: str, fused: Any) -> None:
    """Of the same weights, with one kernel."""
    swap, kernels = fused
    make, inputs_of = FITTING[name]
    block, inputs = make(), inputs_of()
    expected = flat(block(*inputs))
    kept = type(block)
    swap._fuse_blocks(block, kernels)
    assert type(block) is not kept
    assert np.abs(flat(block(*inputs)) - expected).max() < TOLERANCE


UNFIT: dict[str, Callable[[], Any]] = {
    "a resnet that goes up": lambda: resnet(up=True),
    "a resnet that goes down": lambda: resnet(down=True),
    "a scaled and shifted time": lambda: resnet(time_embedding_norm="scale_shift"),
    "a time without its activation": lambda: resnet(skip_time_act=True),
    "a time of an odd width": lambda: resnet(temb_channels=40),
    "another activation": lambda: resnet(non_linearity="relu"),
    "a scaled output": lambda: resnet(output_scale_factor=2.0),
    "another second width": lambda: resnet(conv_2d_out_channels=16),
    "a shortcut without a bias": lambda: resnet(out_channels=64, conv_shortcut_bias=False),
    "two blocks": lambda: transformer(num_layers=2),
    "another width inside": lambda: transformer(attention_head_dim=8),
    "attention with biases": lambda: transformer(attention_bias=True),
    "a feed-forward without gates": lambda: transformer(activation_fn="gelu"),
    "cross-attention alone": lambda: transformer(only_cross_attention=True),
    "self-attention alone": lambda: transformer(cross_attention_dim=None),
    "double self-attention": lambda: transformer(cross_attention_dim=None, double_self_attention=True),
    "norms without weights": lambda: transformer(norm_elementwise_affine=False),
    "a gated fuser": lambda: transformer(attention_type="gated"),
    "pixels without a convolution": lambda: upsample(use_conv=False, out_channels=8),
    "a transposed convolution": lambda: upsample(use_conv_transpose=True),
    "another kernel": lambda: upsample(kernel_size=1, padding=0),
    "no nearest pixels": lambda: upsample(interpolate=False),
    "a norm before the pixels": lambda: upsample(norm_type="ln_norm", eps=1e-5, elementwise_affine=True),
    "a convolution without a bias": lambda: upsample(bias=False),
    "a mean of pixels": lambda: downsample(use_conv=False, out_channels=8),
    "another kernel down": lambda: downsample(kernel_size=1, padding=0),
    "another stride": changed(resnet, conv1__stride=(2, 2)),
    "groups of channels": changed(resnet, conv2__groups=2),
    "a dilated convolution": changed(resnet, conv2__dilation=(2, 2)),
    "attention that adds its input": changed(transformer, transformer_blocks__0__attn1__residual_connection=True),
    "attention that scales": changed(transformer, transformer_blocks__0__attn2__rescale_output_factor=2.0),
    "attention of another processor": changed(transformer, transformer_blocks__0__attn1__processor=object()),
    "other heads": changed(transformer, transformer_blocks__0__attn2__heads=4),
    "other norms": changed(transformer, transformer_blocks__0__norm2__eps=1e-3),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_block_that_the_kernels_do_not_compute_is_left_alone(name: str, fused: Any) -> None:
    """Every guard, one by one: a block that slipped through would make wrong images without an error."""
    swap, kernels = fused
    block = UNFIT[name]()
    _, fault_of = swap._BLOCKS[type(block)]
    assert fault_of(block)
    kept = type(block)
    swap._fuse_blocks(block, kernels)
    assert type(block) is kept


def test_a_block_in_half_precision_is_left_alone(fused: Any) -> None:
    """The kernels read float32."""
    import mindspore as ms

    swap, _ = fused
    for make in (resnet, transformer, upsample, downsample):
        block = make().to_float(ms.float32)
        for parameter in block.get_parameters():
            parameter.set_dtype(ms.float16)
        _, fault_of = swap._BLOCKS[type(block)]
        assert "float32" in fault_of(block)
