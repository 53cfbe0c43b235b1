"""A single file of all weights becomes a checkpoint folder with the same numbers, whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mindspore")

from safetensors.numpy import load_file, save_file

from ddim_core.checkpoints import describe, resolve
from ddim_core.checkpoints.tensors import tensors_of, write_tensors
from ddim_core.errors import CheckpointError
from tests.integration.fleet_command import started
from tests.single_files import single_file
from tests.tiny_checkpoints import write_sdxl

pytestmark = [
    pytest.mark.mindspore,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mindspore") is None, reason="needs the extra 'worker'"),
]
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module", autouse=True)
def mindspore() -> None:
    """MindSpore on the CPU, in this process."""
    from ddim_core.sampling import device

    device.start("CPU")
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ddim_core.sampling.single_file  # noqa: F401


@pytest.fixture
def attentive(tmp_path: Path) -> Path:
    """The packaged checkpoint with attention in its VAE, as published ones have it."""
    folder = Path(shutil.copytree(resolve("shapes"), tmp_path / "attentive"))
    config = json.loads((folder / "vae/config.json").read_text())
    (folder / "vae/config.json").write_text(json.dumps({**config, "mid_block_add_attention": True}))
    weights = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    rng, dtype = np.random.default_rng(0), np.float16
    for side in ("encoder", "decoder"):
        for name in ("group_norm", "to_q", "to_k", "to_v", "to_out.0"):
            shape = (64,) if name == "group_norm" else (64, 64)
            prefix = f"{side}.mid_block.attentions.0.{name}"
            weights[f"{prefix}.weight"] = rng.standard_normal(shape).astype(dtype)
            weights[f"{prefix}.bias"] = rng.standard_normal(64).astype(dtype)
    save_file(weights, folder / "vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def without_weights(folder: Path, to: Path) -> Path:
    """Return a copy of a folder's configurations and tokenizers."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors")))


def assert_same_weights(made: Path, original: Path) -> None:
    parts = [part for part in PARTS if (original / part).is_dir()]
    for part in parts:
        [name] = [path.name for path in (original / part).glob("*.safetensors")]
        ours, theirs = load_file(made / part / name), load_file(original / part / name)
        assert ours.keys() == theirs.keys()
        for weight, bits in theirs.items():
            assert (ours[weight].dtype, ours[weight].shape) == (bits.dtype, bits.shape), weight
            assert ours[weight].tobytes() == bits.tobytes(), weight
    assert len(parts) > 2


def test_a_single_file_becomes_the_folder_that_it_was_made_of(attentive: Path, tmp_path: Path) -> None:
    """By the command, without the weights of the folder that it is like; what a run needs comes from there."""
    save_file(single_file(attentive), tmp_path / "v1.safetensors")
    like = without_weights(attentive, tmp_path / "like")
    command = started(tmp_path, "models", "convert", "v1.safetensors", "--like", "like", "--out", "models/mine")
    out, err = command.communicate(timeout=300)
    assert command.returncode == 0, err
    made = tmp_path / "models/mine"
    assert (out.strip(), [path.name for path in made.parent.iterdir()]) == ("models/mine", ["mine"])
    assert_same_weights(made, attentive)
    assert set(describe(made).files) == set(describe(attentive).files)
    assert (made / "scheduler/scheduler_config.json").read_bytes() == (
        (attentive / "scheduler/scheduler_config.json").read_bytes()
    )
    assert like.is_dir() and not list(like.rglob("*.safetensors"))


def test_stable_diffusion_2_and_its_text_encoder(attentive: Path, tmp_path: Path) -> None:
    """Its text encoder is OpenCLIP's, and its UNet has matrices where version 1 has convolutions."""
    from ddim_core.sampling.single_file import convert

    config = json.loads((attentive / "unet/config.json").read_text())
    (attentive / "unet/config.json").write_text(json.dumps({**config, "use_linear_projection": True}))
    unet = load_file(attentive / "unet/diffusion_pytorch_model.safetensors")
    linear = {name: w[:, :, 0, 0] if ".proj_" in name and w.ndim == 4 else w for name, w in unet.items()}
    save_file(
        {name: np.ascontiguousarray(w) for name, w in linear.items()},
        attentive / "unet/diffusion_pytorch_model.safetensors",
    )
    file = tmp_path / "v2.safetensors"
    weights = single_file(attentive, open_clip=True)
    weights["cond_stage_model.model.text_projection"] = np.ones((128, 128), np.float16)
    weights["cond_stage_model.model.logit_scale"] = np.ones((), np.float16)
    weights["model_ema.decay"] = np.ones((), np.float32)
    weights["betas"] = np.ones(1000, np.float32)
    save_file(weights, file)
    (tmp_path / "made").mkdir()
    convert(file, attentive, tmp_path / "made")
    assert_same_weights(tmp_path / "made", attentive)


def test_stable_diffusion_xl_and_both_its_text_encoders(tmp_path: Path) -> None:
    """The second one's projection is the other way around in the single file."""
    from ddim_core.sampling.single_file import convert

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = write_sdxl(tmp_path / "sdxl")
    _as_pytorch_names(original)
    save_file(single_file(original), tmp_path / "xl.safetensors")
    (tmp_path / "made").mkdir()
    convert(tmp_path / "xl.safetensors", original, tmp_path / "made")
    assert_same_weights(tmp_path / "made", original)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    """NumPy has no such numbers; their bits are carried over."""
    from ddim_core.sampling.single_file import convert

    shapes = resolve("shapes")
    whole = {name: weight.astype(np.float32) for name, weight in single_file(shapes).items()}
    halves = {name: (weight.view(np.uint32) >> 16).astype(np.uint16) for name, weight in whole.items()}
    write_tensors(tmp_path / "v1.safetensors", halves)
    (tmp_path / "made").mkdir()
    convert(tmp_path / "v1.safetensors", shapes, tmp_path / "made")
    path = tmp_path / "made/unet/diffusion_pytorch_model.safetensors"
    place = tensors_of(path)["conv_in.weight"]
    bits = halves["model.diffusion_model.input_blocks.0.0.weight"]
    assert place.dtype == "BF16" and np.array_equal(place.bits(path), bits)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (
            "first_stage_model.",
            r"v1\.safetensors holds no weights of a vae, whose names begin with first_stage_model\.",
        ),
        ("cond_stage_model.", r"holds no weights of a text_encoder, whose names begin with cond_stage_model\.transfo"),
        (
            "model.diffusion_model.out.2",
            r"v1\.safetensors must fit .*shapes, got: .*shapes/unet must hold all weights of",
        ),
    ],
)
def test_a_file_that_lacks_weights_is_refused_and_leaves_no_checkpoint(drop: str, message: str, tmp_path: Path) -> None:
    """Each network is loaded before the folder is one; what mindone would leave random is named."""
    from ddim_core.sampling.single_file import convert

    weights = {name: w for name, w in single_file(resolve("shapes")).items() if not name.startswith(drop)}
    save_file(weights, tmp_path / "v1.safetensors")
    (tmp_path / "made").mkdir()
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "v1.safetensors", resolve("shapes"), tmp_path / "made")
    assert not (tmp_path / "made/model_index.json").exists()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_nothing(ending: signal.Signals, tmp_path: Path) -> None:
    """Or, where nobody could clean up, what no worker takes for a checkpoint and the next conversion removes."""
    save_file(single_file(resolve("shapes")), tmp_path / "v1.safetensors")
    (tmp_path / "models").mkdir()
    command = started(tmp_path, "models", "convert", "v1.safetensors", "--like", "shapes", "--out", "models/mine")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "models").glob(".mine.converting-*/unet")):
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.02)
    command.send_signal(ending)
    command.communicate(timeout=60)
    assert command.returncode != 0
    left = list((tmp_path / "models").iterdir())
    assert left == [] or (ending == signal.SIGKILL and not (left[0] / "model_index.json").exists())


def _as_pytorch_names(folder: Path) -> None:
    """Mindone saves text encoders under MindSpore's names; published ones have PyTorch's."""
    usual = {"embedding_table": "weight", "gamma": "weight", "beta": "bias"}
    for part in ("text_encoder", "text_encoder_2"):
        path = folder / part / "model.safetensors"
        split = [(*name.rpartition("."), weight) for name, weight in load_file(path).items()]
        save_file({f"{head}{dot}{usual.get(end, end)}": weight for head, dot, end, weight in split}, path)
