"""The forms in which people have checkpoints: variants, one folder for all, tokenizers of one file. No MindSpore."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.checkpoints.folder import CheckpointInfo, editions
from ddim_core.checkpoints.plain import in_plain_form
from ddim_core.checkpoints.tokens import clip_tokenizer
from ddim_core.errors import CheckpointError
from tests.unit.checkpoints.test_kinds import DDPM, DIT, SDXL, write

HUB_LAYOUT = {
    "model_index.json": {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.1.1",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    },
    "config.json": {
        "_class_name": "UNet2DModel",
        "_diffusers_version": "0.0.4",
        "block_out_channels": [128, 256],
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": 32,
    },
    "scheduler_config.json": {"_class_name": "DDPMScheduler", "clip_sample": True, "trained_betas": None},
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A copy of the packaged checkpoint."""
    return Path(shutil.copytree(resolve("shapes"), tmp_path / "shapes"))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """An unconditional checkpoint with all files in one folder, as the first of them were published."""
    for name, content in HUB_LAYOUT.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / WEIGHTS).write_bytes(b"unet")
    return tmp_path


def as_variant(folder: Path, name: str, *, move: bool = True) -> None:
    """Give all weights of a folder, or copies of them, the names of a variant."""
    for path in [path for path in folder.glob("*/*.safetensors") if path.name.count(".") == 1]:
        change = path.rename if move else lambda target, source=path: shutil.copyfile(source, target)
        change(path.with_name(path.name.replace(".safetensors", f".{name}.safetensors")))


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda _: resolve("shapes"), "d06efc3719ba9db7365d1bcafd6647ed8b5eaec026106b999cbf22c32aca0143"),
        (lambda path: write(path, SDXL), "0411c702e2de42ee6f81d1a1d59b9e6aa754e1e56e6ab81315f59aeb78d1f131"),
        (lambda path: write(path, DIT), "964f6bcea5290d5c7b7f5b79a46e7b6c28a53728b6c599ae7d9a664e0534c362"),
        (lambda path: write(path, DDPM), "d8692736774ab15d19a82d70dec4c23ae097c279cb8ebc7f3df8d87357de6d80"),
    ],
)
def test_a_folder_keeps_the_digest_that_earlier_versions_gave_it(
    make: Callable[[Path], Path], known: str, tmp_path: Path
) -> None:
    """Plans and rows of earlier runs name it; these four are of version 0.6.0."""
    folder = make(tmp_path)
    assert digest(folder) == f"sha256:{known}"
    with in_plain_form(describe(folder)) as plain:
        assert plain.folder == folder  # nothing is laid out anew for it


def test_the_only_variant_is_taken_and_said(shapes: Path) -> None:
    """As a download with variant=fp16 leaves it; its digest is its own, for other files were read."""
    before = describe(shapes)
    as_variant(shapes, "fp16")
    info = describe(shapes)
    assert (before.variant, info.variant, describe(shapes, "fp16").files) == (None, "fp16", info.files)
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in info.files
    assert digest(shapes) != digest(resolve("shapes"))


def test_plain_weights_go_before_a_variant_unless_it_is_asked_for(shapes: Path) -> None:
    """Downloads of a whole repository hold both."""
    as_variant(shapes, "fp16", move=False)
    assert (describe(shapes).variant, digest(shapes)) == (None, digest(resolve("shapes")))
    assert describe(shapes, "fp16").variant == "fp16"
    assert digest(shapes, "fp16") != digest(shapes)
    assert editions(shapes) == [None, "fp16"]
    (shapes / "vae/diffusion_pytorch_model.fp16.safetensors").unlink()  # a component without it has plain ones
    assert f"vae/{WEIGHTS}" in describe(shapes, "fp16").files


def test_a_choice_between_variants_is_left_to_a_person(shapes: Path) -> None:
    """One of them may be the weights before averaging."""
    as_variant(shapes, "non_ema", move=False)
    as_variant(shapes, "fp16")
    with pytest.raises(CheckpointError, match=r"in one variant, got fp16 and non_ema in .*; choose one with --variant"):
        describe(shapes)
    assert describe(shapes, "non_ema").variant == "non_ema"
    with pytest.raises(CheckpointError, match=r"must have the variant bf16, got fp16, non_ema in "):
        describe(shapes, "bf16")


@pytest.mark.parametrize(
    "index",
    ["diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model.fp16.safetensors.index.json"],
)
def test_a_variant_may_be_in_shards(shapes: Path, index: str) -> None:
    """Two libraries, two names of the index; the shards are where it says, and shards are no variants."""
    shard = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"
    (shapes / "unet" / WEIGHTS).rename(shapes / "unet" / shard)
    (shapes / "unet" / index).write_text(json.dumps({"weight_map": {"a": shard}}))
    info = describe(shapes)
    assert (info.variant, {f"unet/{shard}", f"unet/{index}"} <= set(info.files)) == ("fp16", True)
    with in_plain_form(info) as plain:
        assert json.loads((plain.folder / f"unet/{WEIGHTS}.index.json").read_text())["weight_map"] == {"a": shard}
        assert (plain.folder / "unet" / shard).resolve() == (shapes / "unet" / shard).resolve()


@pytest.mark.parametrize("variant", ["fp16", None])
def test_a_variant_is_as_safe_as_plain_weights(shapes: Path, variant: str | None) -> None:
    """Pickles, adapters and indexes that lead elsewhere are refused whatever the weights are called."""
    as_variant(shapes, "fp16")
    index = shapes / "unet/diffusion_pytorch_model.safetensors.index.fp16.json"
    (shapes / "unet/diffusion_pytorch_model.fp16.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": {"a": "../../other.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"^weight_map must name \.safetensors files beside unet/diffusion_pytor"):
        describe(shapes, variant)
    index.unlink()
    (shapes / "unet/diffusion_pytorch_model.fp16.bin").write_bytes(b"pickle")
    with pytest.raises(
        CheckpointError, match=r"got unet/diffusion_pytorch_model\.fp16\.bin .* safe_serialization=True"
    ):
        describe(shapes, variant)


def test_all_files_may_lie_in_one_folder(hub: Path) -> None:
    """Where diffusers looks for a component without a folder; no file of another component is taken for it."""
    info = describe(hub)
    assert (info.pipeline, info.takes, info.default_height) == ("DDPMPipeline", "nothing", 32)
    assert list(info.files) == ["config.json", WEIGHTS, "model_index.json", "scheduler_config.json"]
    with in_plain_form(info) as plain:
        laid_out = {str(path.relative_to(plain.folder)) for path in plain.folder.rglob("*") if path.is_file()}
        assert laid_out == {
            "model_index.json",
            "unet/config.json",
            f"unet/{WEIGHTS}",
            "scheduler/scheduler_config.json",
        }
    assert not plain.folder.exists()
    (hub / "config.json").write_text(json.dumps({**HUB_LAYOUT["config.json"], "_class_name": "AutoencoderKL"}))
    with pytest.raises(CheckpointError, match=r"^a checkpoint must hold unet/config\.json, got none in "):
        describe(hub)


def test_one_folder_is_as_safe_as_many(hub: Path) -> None:
    """An adapter and pickles beside model_index.json are found there."""
    (hub / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"^a checkpoint must hold no adapter_config\.json, which has another"):
        describe(hub)
    (hub / "adapter_config.json").unlink()
    (hub / WEIGHTS).rename(hub / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"^weights must be {WEIGHTS}, got diffusion_pytorch_model\.bin in "):
        describe(hub)


def test_weights_that_were_never_downloaded_are_told_from_weights(hub: Path) -> None:
    """A clone without Git LFS has a text of three lines in their place."""
    (hub / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match=rf"^{WEIGHTS} must hold weights, got a pointer .*: git lfs pull$"):
        describe(hub)


def one_file_tokenizer(folder: Path, *, merges_as_text: bool) -> dict[str, Any]:
    """Make the tokenizer of a folder one of transformers 5, and return what its file holds."""
    tokenizer = folder / "tokenizer"
    merges = [line.split() for line in (tokenizer / "merges.txt").read_text().splitlines()[1:]]
    model = {
        "type": "BPE",
        "end_of_word_suffix": "</w>",
        "vocab": json.loads((tokenizer / "vocab.json").read_text()),
        "merges": [" ".join(merge) for merge in merges] if merges_as_text else merges,
    }
    saved = {"added_tokens": [{"id": 625, "content": "<|startoftext|>", "special": True}], "model": model}
    (tokenizer / "tokenizer.json").write_text(json.dumps(saved))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24, "backend": "tokenizers"}))
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (tokenizer / name).unlink()
    return saved


@pytest.mark.parametrize("merges_as_text", [True, False])
def test_a_tokenizer_of_one_file_gives_the_same_tokens(shapes: Path, merges_as_text: bool) -> None:
    """Nothing is laid out anew for it, and what it reads is part of the digest."""
    one_file_tokenizer(shapes, merges_as_text=merges_as_text)
    info = describe(shapes)
    assert {"tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"} <= set(info.files)
    ours, theirs = clip_tokenizer(shapes / "tokenizer"), clip_tokenizer(resolve("shapes") / "tokenizer")
    for text in ("a large red circle", "Réd 圆 😀 <|endoftext|>, it's 3", ""):
        assert ours.ids(text) == theirs.ids(text)
    with in_plain_form(info) as plain:
        assert plain.folder == shapes


def test_both_forms_of_a_tokenizer_are_the_older_one(shapes: Path) -> None:
    """The slow tokenizer reads vocab.json where there is one, and so do we."""
    before = describe(shapes).files
    (shapes / "tokenizer/tokenizer.json").write_text("{}")
    assert set(describe(shapes).files) == {*before, "tokenizer/tokenizer.json"}
    (shapes / "tokenizer/merges.txt").unlink()
    assert "tokenizer/vocab.json" not in describe(shapes).files


def test_a_byte_order_mark_before_a_configuration_is_no_fault(shapes: Path) -> None:
    """Editors on Windows write it, and mindone does not read past it."""
    config = shapes / "unet/config.json"
    content = config.read_bytes()
    config.write_bytes(b"\xef\xbb\xbf" + content)
    with in_plain_form(describe(shapes)) as plain:
        assert (plain.folder / "unet/config.json").read_bytes() == content
        assert (plain.folder / f"unet/{WEIGHTS}").is_symlink()


def test_an_error_names_the_folder_that_the_person_has(hub: Path) -> None:
    """The folder of links is gone when they read it."""
    with (
        pytest.raises(CheckpointError, match=rf"^{hub}/unet must hold all weights$"),
        in_plain_form(describe(hub)) as info,
    ):
        raise CheckpointError(f"{info.folder}/unet must hold all weights")


@pytest.mark.parametrize(
    ("version", "pipeline", "size", "pixels"),
    [
        ("0.6.0", "StableDiffusionPipeline", 32, 512),
        ("0.8.1", "StableDiffusionPipeline", 63, 512),
        ("0.9.0", "StableDiffusionPipeline", 32, 256),
        ("0.36.0", "StableDiffusionPipeline", 32, 256),
        ("0.6.0", "StableDiffusionPipeline", [32, 32], 256),
        ("0.6.0", "StableDiffusionPipeline", 96, 768),
        (None, "StableDiffusionPipeline", 32, 256),
        ("0.6.0", SDXL, 32, 256),
    ],
)
def test_a_small_size_of_an_old_configuration_is_a_slip(
    version: str | None, pipeline: str, size: Any, pixels: int, tmp_path: Path
) -> None:
    """StableDiffusionPipeline reads 64 there, in diffusers and in mindone, and no other of our kinds does."""
    unet = {"sample_size": size} | ({} if version is None else {"_diffusers_version": version})
    plain = {"addition_embed_type": None} if pipeline != SDXL else {}
    folder = write(tmp_path, SDXL, index={"_class_name": pipeline}, unet={**unet, **plain})
    assert (describe(folder).default_height, describe(folder).default_width) == (pixels, pixels)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([4, 64, "a", "UNet2DModel", "0.8.0", [], [1, 2]]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["model", "vocab", "merges"]), inner),
    max_leaves=3,
)
FIELDS = ["_class_name", "unet", "vae", "sample_size", "block_out_channels", "in_channels", "latent_channels"]
FIELDS += ["weight_map", "model", "beta_schedule", "trained_betas", "sample_max_value", "_diffusers_version"]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_a_folder_holds_it_is_described_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A worker lists what it has: no subset of files and no content may end it with another error."""
    folder = tmp_path_factory.mktemp("any") / "checkpoint"
    kind = data.draw(st.sampled_from([SDXL, DIT, DDPM, "hub"]))
    if kind == "hub":
        folder.mkdir()
        for name, content in HUB_LAYOUT.items():
            (folder / name).write_text(json.dumps(content))
        (folder / WEIGHTS).write_bytes(b"unet")
    else:
        folder.mkdir()
        write(folder, kind)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), max_size=2, unique=True)):
        way = data.draw(st.sampled_from(["gone", "variant", "bytes", "fields", "folder", "index"]))
        if way == "fields" and path.suffix == ".json":
            content = json.loads(path.read_text())
            content |= data.draw(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=3))
            path.write_text(json.dumps(content))
        elif way == "bytes":
            path.write_bytes(data.draw(st.binary(max_size=40)))
        elif way == "index":
            path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": data.draw(JSON_VALUES)}))
        elif way == "folder":
            path.unlink()
            path.mkdir()
        else:
            name = path.name.replace(".safetensors", ".fp16.safetensors")
            path.rename(path.with_name(name + "_" * (way == "gone")))
    variant = data.draw(st.sampled_from([None, "fp16", "../x"]))
    try:
        assert isinstance(describe(folder, variant), CheckpointInfo)
    except CheckpointError as error:
        assert "\n" not in str(error)
