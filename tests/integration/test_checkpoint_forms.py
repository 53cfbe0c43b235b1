"""The forms in which people have checkpoints are loaded as the plain one: the same weights and tokens, to the bit."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mindspore")

from safetensors.numpy import load_file, save_file

from ddim_core.checkpoints import CheckpointInfo, describe, digest, resolve
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling import device
from tests.tiny_checkpoints import WRITERS, write_unconditional

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

SHAPES = resolve("shapes")
TEXTS = ("a large red circle", "Réd 圆 😀, it's 3 <|endoftext|> stars", "")
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module", autouse=True)
def mindspore() -> None:
    """MindSpore on the CPU, in this process."""
    device.start("CPU")


def fp16(folder: Path) -> None:
    """As downloaded with variant=fp16."""
    for path in list(folder.glob("*/*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))


def one_file_tokenizer(folder: Path) -> None:
    """As transformers 5 saves it."""
    from transformers import CLIPTokenizerFast

    fast = CLIPTokenizerFast.from_pretrained(folder / "tokenizer")
    shutil.rmtree(folder / "tokenizer")
    fast.save_pretrained(folder / "tokenizer")
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (folder / "tokenizer" / name).unlink()
    config = json.loads((folder / "tokenizer/tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({**config, "backend": "tokenizers"}))


def marked(folder: Path) -> None:
    """As an editor on Windows saves configurations."""
    for path in [path for path in folder.rglob("*.json") if path.name != "vocab.json"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def published(folder: Path) -> None:
    """As Stable Diffusion 1.5 is: another scheduler's configuration, position_ids, pickles beside the weights."""
    text = load_file(folder / "text_encoder/model.safetensors")
    text["text_model.embeddings.position_ids"] = np.arange(24, dtype=np.int64)[None]
    save_file(text, folder / "text_encoder/model.safetensors", metadata={"format": "pt"})
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"pickle")
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    nulls = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "sample_max_value": None, "thresholding": None}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({**config, **nulls}))


def everything(folder: Path) -> None:
    """All of it in one folder."""
    for change in (published, fp16, one_file_tokenizer, marked):
        change(folder)


def weights_of(info: CheckpointInfo) -> dict[str, np.ndarray]:
    """Return all weights on the device by network and name, and the text encoder's answers to some texts."""
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ddim_core.sampling.models.load import load_model

    model = load_model(info, "float32")
    weights = {parameter.name: parameter.asnumpy() for parameter in model.denoiser.get_parameters()}
    weights |= {f"vae.{parameter.name}": parameter.asnumpy() for parameter in model._decoder.get_parameters()}
    texts = TEXTS if info.takes == "prompt" else ("",)
    for text in texts:
        spec = SampleSpec(text, "", 0, 0, 1, 1.0, 0.0, 0.0, info.default_height, info.default_width, info.schedule)
        [(conditions, _)] = model.conditions([spec])
        weights |= {f"text.{text}.{i}": condition.asnumpy() for i, condition in enumerate(conditions)}
    return weights


def assert_same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []


@pytest.fixture(scope="module")
def plain() -> dict[str, np.ndarray]:
    """The packaged checkpoint, loaded as ever."""
    return weights_of(describe(SHAPES))


@pytest.mark.parametrize("change", [fp16, one_file_tokenizer, marked, published, everything])
def test_a_form_is_loaded_as_the_plain_one(
    change: Callable[[Path], None], plain: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The same weights under any name, and for any text the same tokens."""
    folder = Path(shutil.copytree(SHAPES, tmp_path / "form"))
    change(folder)
    assert_same(weights_of(describe(folder)), plain)


def test_an_unconditional_checkpoint_with_all_files_in_one_folder_and_old_names(tmp_path: Path) -> None:
    """As the first ones were published; the weights of its attention are those of the newer names."""
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        newer = write_unconditional(tmp_path / "newer")
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        shutil.copy(newer / name, hub)
    weights = load_file(newer / "unet/diffusion_pytorch_model.safetensors")
    for new, old in OLD_NAMES.items():
        weights = {_renamed(name, new, old): weight for name, weight in weights.items()}
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, hub / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert_same(weights_of(describe(hub)), weights_of(describe(newer)))


def test_the_attention_of_an_old_vae(tmp_path: Path) -> None:
    """Folders of Stable Diffusion 1 name its weights as diffusers did before 0.15."""
    folders = [Path(shutil.copytree(SHAPES, tmp_path / name)) for name in ("newer", "older")]
    rng = np.random.default_rng(0)
    weights = load_file(SHAPES / "vae/diffusion_pytorch_model.safetensors")
    for side in ("encoder", "decoder"):
        for name in ("group_norm", *OLD_NAMES):
            prefix = f"{side}.mid_block.attentions.0.{name}"
            shape = (64,) if name == "group_norm" else (64, 64)
            weights[f"{prefix}.weight"] = rng.standard_normal(shape).astype(np.float16)
            weights[f"{prefix}.bias"] = rng.standard_normal(64).astype(np.float16)
    older = dict(weights)
    for new, old in OLD_NAMES.items():
        older = {_renamed(name, new, old): weight for name, weight in older.items()}
    for folder, named in zip(folders, (weights, older), strict=True):
        config = json.loads((folder / "vae/config.json").read_text())
        (folder / "vae/config.json").write_text(json.dumps({**config, "mid_block_add_attention": True}))
        save_file(named, folder / "vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert any(".proj_attn." in name for name in older)
    assert_same(weights_of(describe(folders[1])), weights_of(describe(folders[0])))


def _renamed(name: str, new: str, old: str) -> str:
    return name.replace(f".{new}.", f".{old}.") if ".attentions." in name else name


@pytest.mark.parametrize("kind", WRITERS)
def test_what_mindone_writes_keeps_its_digest(kind: str, tmp_path: Path) -> None:
    """By the rule of version 0.6.0, written down once more: names, sizes and contents of these files, sorted."""
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = WRITERS[kind](tmp_path / kind)
    total = hashlib.sha256()
    for path in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        data = (folder / path).read_bytes()
        total.update(f"{path}\0{len(data)}\0".encode() + data)
    assert digest(folder) == f"sha256:{total.hexdigest()}"
