"""mindone's blocks with one kernel for all that they compute; ``swap`` puts these classes in place of mindone's own.

A block keeps its weights and its place in the network: only its class changes, and what ``prepare`` adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mindone.diffusers.models.downsampling import Downsample2D
from mindone.diffusers.models.resnet import ResnetBlock2D
from mindone.diffusers.models.transformers.transformer_2d import Transformer2DModel
from mindone.diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from mindone.diffusers.models.upsampling import Upsample2D
from mindspore import Tensor, mint, nn

from ddim_core.sampling.fused.operators import Operators, settings

_NO_NORM = (0, 1.0)
"""No groups, and an epsilon that nobody reads."""
# Floats of each of the three copies that a convolution makes of a tile's rows (csrc/convolution.h): where they outgrow
# a core's cache, MindSpore's convolution by itself is a tenth faster.
_TILE, _CACHED = 64, 85_000


class FusedResnet(ResnetBlock2D):
    """``ResnetBlock2D`` by ``csrc/resnet.cc``; a skip connection is joined to its input there."""

    def prepare(self, operators: Operators) -> None:
        """Add what ``construct`` calls."""
        self.kernel = operators.make("resnet")
        knows_time, has_shortcut = self.time_emb_proj is not None, self.conv_shortcut is not None
        norms = (self.norm1.num_groups, self.norm2.num_groups, self.norm1.eps, self.norm2.eps)
        self.settings = settings(*norms, knows_time, has_shortcut, False)
        self.settings_with_skip = settings(*norms, knows_time, has_shortcut, True)

    def construct(self, input_tensor: Tensor, temb: Any, skip: Any = None) -> Tensor:  # noqa: D102
        unused = self.norm1.weight
        time, time_weight, time_bias = unused, unused, unused
        if self.time_emb_proj is not None:
            time, time_weight, time_bias = temb, self.time_emb_proj.weight, self.time_emb_proj.bias
        shortcut_weight, shortcut_bias = unused, unused
        if self.conv_shortcut is not None:
            shortcut_weight, shortcut_bias = self.conv_shortcut.weight, self.conv_shortcut.bias
        chosen, joined = (self.settings, unused) if skip is None else (self.settings_with_skip, skip)
        norms = (self.norm1.weight, self.norm1.bias, self.norm2.weight, self.norm2.bias)
        return self.kernel(
            *(input_tensor, chosen, joined, time, norms[0], norms[1], self.conv1.weight, self.conv1.bias),
            *(time_weight, time_bias, norms[2], norms[3], self.conv2.weight, self.conv2.bias),
            *(shortcut_weight, shortcut_bias),
        )


class FusedTransformer(Transformer2DModel):
    """``Transformer2DModel`` by ``csrc/transformer.cc``; without masks, and always a tuple."""

    def prepare(self, operators: Operators) -> None:
        """Add what ``construct`` calls."""
        self.kernel = operators.make("transformer")
        block = self.transformer_blocks[0]
        self.settings = settings(
            self.norm.num_groups, self.norm.eps, block.attn1.heads, block.norm1.eps, block.attn1.scale
        )

    def construct(  # noqa: D102, PLR0913, PLR0917
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        timestep: Any = None,
        added_cond_kwargs: Any = None,
        class_labels: Any = None,
        cross_attention_kwargs: Any = None,
        attention_mask: Any = None,
        encoder_attention_mask: Any = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        if attention_mask is not None or encoder_attention_mask is not None or cross_attention_kwargs is not None:
            raise ValueError("a fused transformer takes neither masks nor cross_attention_kwargs")
        block = self.transformer_blocks[0]
        first, second, up, down = block.attn1, block.attn2, block.ff.net[0].proj, block.ff.net[2]
        y = self.kernel(
            *(hidden_states, self.settings, encoder_hidden_states, self.norm.weight, self.norm.bias),
            *(self.proj_in.weight, self.proj_in.bias, block.norm1.weight, block.norm1.bias),
            *(first.to_q.weight, first.to_k.weight, first.to_v.weight, first.to_out[0].weight, first.to_out[0].bias),
            *(block.norm2.weight, block.norm2.bias),
            *(second.to_q.weight, second.to_k.weight, second.to_v.weight),
            *(second.to_out[0].weight, second.to_out[0].bias, block.norm3.weight, block.norm3.bias),
            *(up.weight, up.bias, down.weight, down.bias, self.proj_out.weight, self.proj_out.bias),
        )
        return (y,)


class FusedUpsample(Upsample2D):
    """``Upsample2D`` by ``csrc/convolution.cc``, but for odd numbers of latents and wide maps of large pictures."""

    def prepare(self, operators: Operators) -> None:
        """Add what ``construct`` calls."""
        self.own = self.conv if self.name == "conv" else self.Conv2d_0
        self.kernel = operators.make("upsample")
        self.settings = settings(*_NO_NORM)

    def construct(self, hidden_states: Tensor, output_size: Any = None) -> Tensor:  # noqa: D102
        height, width = 2 * hidden_states.shape[2], 2 * hidden_states.shape[3]
        if output_size is not None:
            height, width = output_size
        doubled = height == 2 * hidden_states.shape[2] and width == 2 * hidden_states.shape[3]
        if not doubled or hidden_states.shape[1] * (_TILE + 2 * width) > _CACHED:
            return self.own(mint.nn.functional.interpolate(hidden_states, size=(height, width), mode="nearest"))
        weight, bias = self.own.weight, self.own.bias
        return self.kernel(hidden_states, self.settings, bias, bias, weight, bias)


class FusedDownsample(Downsample2D):
    """``Downsample2D`` by ``csrc/convolution.cc``; without padding, zeros are added at the end."""

    def prepare(self, operators: Operators) -> None:
        """Add what ``construct`` calls."""
        self.kernel = operators.make("downsample" if self.padding else "downsample_corner")
        self.settings = settings(*_NO_NORM)

    def construct(self, hidden_states: Tensor) -> Tensor:  # noqa: D102
        weight, bias = self.conv.weight, self.conv.bias
        return self.kernel(hidden_states, self.settings, bias, bias, weight, bias)


class FusedConvolution(mint.nn.Conv2d):
    """A 3x3 convolution by itself, by ``csrc/convolution.cc``."""

    def prepare(self, operators: Operators) -> None:
        """Add what ``construct`` calls."""
        self.kernel = operators.make("convolution")
        self.settings = settings(*_NO_NORM)

    def construct(self, input: Tensor) -> Tensor:  # noqa: D102
        return self.kernel(input, self.settings, self.bias, self.bias, self.weight, self.bias)


class FusedOutput(nn.Cell):
    """Group norm, SiLU and a 3x3 convolution, by ``csrc/convolution.cc``."""

    def __init__(self, norm: Any, conv: Any, operators: Operators) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv
        self.kernel = operators.make("convolution")
        self.settings = settings(norm.num_groups, norm.eps)

    def construct(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.kernel(x, self.settings, self.norm.weight, self.norm.bias, self.conv.weight, self.conv.bias)


class Unchanged(nn.Cell):
    """What a kernel computes elsewhere."""

    def construct(self, x: Tensor) -> Tensor:  # noqa: D102
        return x


class FusedTime(nn.Cell):
    """``Timesteps`` and ``TimestepEmbedding`` by ``csrc/time_embedding.cc``; the timesteps come as [L, 1]."""

    def __init__(self, sinusoids: Any, embedding: Any, operators: Operators) -> None:
        super().__init__()
        self.embedding = embedding
        self.kernel = operators.make("time_embedding")
        self.settings = settings(sinusoids.flip_sin_to_cos)
        self.frequencies = Tensor(frequencies(sinusoids.num_channels, sinusoids.downscale_freq_shift))

    def construct(self, t: Tensor, condition: Any = None) -> Tensor:  # noqa: D102
        first, second = self.embedding.linear_1, self.embedding.linear_2
        weights = (first.weight, first.bias, second.weight, second.bias)
        return self.kernel(t, self.settings, self.frequencies, *weights)


class AsColumn(nn.Cell):
    """Timesteps [L] as [L, 1]."""

    def construct(self, t: Tensor) -> Tensor:  # noqa: D102
        return t.reshape(-1, 1)


def frequencies(channels: int, shift: float) -> Any:
    """Return 10000 ** (-i / (channels / 2 - shift)) for i from 0 to channels / 2 - 1, the float32 nearest to each."""
    half = channels // 2
    return np.power(10_000.0, -np.arange(half, dtype=np.float64) / (half - shift)).astype(np.float32)


class FusedCrossAttnUpBlock(CrossAttnUpBlock2D):
    """``CrossAttnUpBlock2D`` whose blocks join their skip connections themselves."""

    def construct(  # noqa: D102, PLR0913, PLR0917
        self,
        hidden_states: Tensor,
        res_hidden_states_tuple: Any,
        temb: Any = None,
        encoder_hidden_states: Any = None,
        cross_attention_kwargs: Any = None,
        upsample_size: Any = None,
        attention_mask: Any = None,
        encoder_attention_mask: Any = None,
    ) -> Tensor:
        skips = res_hidden_states_tuple
        for resnet, attn in zip(self.resnets, self.attentions):  # noqa: B905 - graphs know no ``strict``
            hidden_states = resnet(hidden_states, temb, skips[-1])
            skips = skips[:-1]
            hidden_states = attn(hidden_states, encoder_hidden_states, return_dict=False)[0]
        if self.upsamplers is not None:
            for upsampler in self.upsamplers:
                hidden_states = upsampler(hidden_states, upsample_size)
        return hidden_states


class FusedUpBlock(UpBlock2D):
    """``UpBlock2D`` whose blocks join their skip connections themselves."""

    def construct(  # noqa: D102
        self, hidden_states: Tensor, res_hidden_states_tuple: Any, temb: Any = None, upsample_size: Any = None
    ) -> Tensor:
        skips = res_hidden_states_tuple
        for resnet in self.resnets:
            hidden_states = resnet(hidden_states, temb, skips[-1])
            skips = skips[:-1]
        if self.upsamplers is not None:
            for upsampler in self.upsamplers:
                hidden_states = upsampler(hidden_states, upsample_size)
        return hidden_states
