"""Checkpoint folders: what they say, what is wrong with them, and their digest. No MindSpore."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.errors import CheckpointError

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
JSON: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": [None, None],
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "PNDMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "skip_prk_steps": True,
        "clip_sample": True,
    },
    "unet/config.json": {"in_channels": 4, "out_channels": 4, "sample_size": 64},
    "vae/config.json": {"latent_channels": 4, "block_out_channels": [128, 256, 512, 512]},
    "text_encoder/config.json": {},
    "tokenizer/tokenizer_config.json": {},
    "tokenizer/vocab.json": {},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shape of Stable Diffusion 1.5 and no real weights."""
    for name, content in JSON.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    for part, name in WEIGHTS.items():
        (tmp_path / part / name).write_bytes(part.encode())
    (tmp_path / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    return tmp_path


def change(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps({**JSON[name], **values}))


def test_a_folder_says_what_it_holds(folder: Path) -> None:
    """Sizes and the scheduler come from the checkpoint; the user need not know them."""
    info = describe(folder)
    assert (info.pipeline, info.latent_channels, info.vae_scale_factor) == ("StableDiffusionPipeline", 4, 8)
    assert (info.default_height, info.default_width) == (512, 512)
    assert (info.schedule.beta_schedule, info.schedule.beta_end) == ("scaled_linear", 0.012)
    assert info.files["unet/diffusion_pytorch_model.safetensors"] == 4
    assert list(info.files) == sorted(info.files)
    assert len(info.files) == len(JSON) + len(WEIGHTS) + 1


def test_the_schedule_is_as_the_pipeline_would_set_it(folder: Path) -> None:
    """StableDiffusionPipeline forces these when it loads a checkpoint, in diffusers and in mindone."""
    assert not describe(folder).schedule.clip_sample
    assert describe(folder).schedule.steps_offset == 1


def test_a_sample_size_may_be_a_pair(folder: Path) -> None:
    """Height first."""
    change(folder, "unet/config.json", sample_size=[32, 64])
    info = describe(folder)
    assert (info.default_height, info.default_width) == (256, 512)


def test_sharded_weights_are_found(folder: Path) -> None:
    """Large networks are saved in several files that an index names."""
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "unet" / shards[0]).write_bytes(b"1")
    with pytest.raises(CheckpointError, match=f"a checkpoint must hold unet/{shards[1]}, got none in "):
        describe(folder)
    (folder / "unet" / shards[1]).write_bytes(b"2")
    assert {f"unet/{shard}" for shard in shards} <= set(describe(folder).files)


@pytest.mark.parametrize(
    "shard",
    ["../../other/weights.safetensors", "/etc/passwd", "a/b.safetensors", "weights.bin", "weights.ckpt", "..", "", 7],
)
def test_an_index_names_safetensors_beside_it_and_nothing_else(folder: Path, shard: object) -> None:
    """It decides which files are opened, and how: one with another ending is read as a pickle or by other code."""
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "good.safetensors", "b": shard}}))
    (folder / "unet/good.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"^weight_map must name \.safetensors files beside unet/diffusion_pyt"):
        describe(folder)


def test_weights_that_loaders_would_choose_differently_are_refused(folder: Path) -> None:
    """The digest would be that of one file, and mindone would load the others."""
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"^a checkpoint must hold unet/.*\.safetensors or unet/.*, got both in "):
        describe(folder)


def test_an_adapter_that_would_have_another_model_loaded_is_refused(folder: Path) -> None:
    """Transformers follows ``base_model_name_or_path`` to any folder, before it looks at the weights beside it."""
    (folder / "text_encoder/adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(
        CheckpointError, match=r"^a checkpoint must hold no text_encoder/adapter_config\.json, which has "
    ):
        describe(folder)


@pytest.mark.parametrize("library", ["diffusers", "os", "./pipeline.py", None])
def test_the_library_that_a_folder_names_is_never_imported(folder: Path, library: object) -> None:
    """Classes are chosen by names that are known; a custom pipeline's code is not looked at."""
    change(folder, "model_index.json", unet=[library, "UNet2DConditionModel"], feature_extractor=["evil", "Evil"])
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "pipeline.py").write_text("raise SystemExit")
    before = set(sys.modules)
    assert describe(folder).pipeline == "StableDiffusionPipeline"
    assert "evil" not in set(sys.modules) - before
    change(folder, "model_index.json", unet=["diffusers", "os.system"])
    with pytest.raises(
        CheckpointError, match=r"^the class of unet in .* must be UNet2DConditionModel, got os\.system$"
    ):
        describe(folder)


@pytest.mark.parametrize("name", [*JSON, "tokenizer/merges.txt", *(f"{part}/{name}" for part, name in WEIGHTS.items())])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """The user can go and fetch it."""
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"a checkpoint must hold {name}, got none in {folder}"):
        describe(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    """Loading a pickle runs whatever its author put there."""
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"got unet/diffusion_pytorch_model\.bin .* safe_serialization=True"):
        describe(folder)


def test_pickles_beside_safetensors_are_not_read(folder: Path) -> None:
    """Many published folders carry both; the digest is that of what is loaded."""
    before = digest(folder)
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"pickle")
    assert digest(folder) == before


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "model_index.json",
            {"_class_name": "FluxPipeline"},
            "_class_name of .* must be StableDiffusionPipeline or .* or DDIMPipeline, got FluxPipeline",
        ),
        (
            "model_index.json",
            {"unet": ["diffusers", "UNet3DConditionModel"]},
            "the class of unet in .* must be UNet2DConditionModel, got UNet3DConditionModel",
        ),
        ("model_index.json", {"vae": None}, "the class of vae in .* must be AutoencoderKL, got None"),
        ("model_index.json", {"vae": 7}, "the class of vae in .* must be AutoencoderKL, got 7"),
        ("unet/config.json", {"in_channels": 9}, "got 9, 4 and 4 in .*; inpainting and upscaling models"),
        ("unet/config.json", {"sample_size": None}, "sample_size must be a number of latent pixels or .*, got None"),
        ("vae/config.json", {"block_out_channels": []}, r"block_out_channels must be a list of .*, got \[\]"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "flow"},
            "prediction_type must be one of .* got 'flow'",
        ),
    ],
)
def test_what_is_not_supported_is_named_with_what_is(
    folder: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    """One line that says which file, what it holds and what it may hold."""
    change(folder, name, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        describe(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_file_that_is_no_json_object_is_named(folder: Path, content: bytes) -> None:
    """A download that broke off shows here."""
    (folder / "unet/config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"unet/config\.json must "):
        describe(folder)


def test_the_digest_covers_names_and_contents(folder: Path) -> None:
    """A worker whose checkpoint differs in one byte must not join the run."""
    before = digest(folder)
    assert before.startswith("sha256:")
    assert digest(folder) == before
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"vaf")
    assert digest(folder) != before
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"vae")
    (folder / "README.md").write_text("not read")
    assert digest(folder) == before


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "tokenizer.json"])
def test_the_digest_covers_what_the_tokenizer_reads_where_it_exists(folder: Path, name: str) -> None:
    """Another padding token in special_tokens_map.json makes other pictures."""
    before = digest(folder)
    (folder / "tokenizer" / name).write_text("{}")
    added = digest(folder)
    (folder / "tokenizer" / name).write_text("[]")
    assert len({before, added, digest(folder)}) == 3
    (folder / "tokenizer" / name).unlink()
    assert digest(folder) == before


def test_the_packaged_checkpoint_has_a_name(tmp_path: Path) -> None:
    """`shapes` works without a download; any other name is a path."""
    assert describe(resolve("shapes")).default_height == 64
    assert resolve(tmp_path) == tmp_path
    with pytest.raises(CheckpointError, match="or one of shapes, got nowhere/to/be/found"):
        resolve("nowhere/to/be/found")


def test_checkpoints_are_read_without_mindspore() -> None:
    """The producer checks them on machines that have none."""
    code = (
        "import sys; from ddim_core.checkpoints import describe, digest, resolve; digest(resolve('shapes'));"
        "sys.exit(bool({'mindspore', 'mindone', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
