"""What is listed of checkpoints: each once, with what a person must know, and what is wrong with the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints import resolve
from ddim_core.checkpoints.notes import note_of, places_to_note, single_files, variants_to_note
from ddim_core.checkpoints.recommended import RECOMMENDED
from ddim_core.checkpoints.tensors import tensors_of, write_tensors
from ddim_core.errors import CheckpointError
from tests.unit.checkpoints.test_kinds import DDPM, DIT, write


def test_a_checkpoint_is_described_as_requests_need_it() -> None:
    """Its kind, its dtype, what it takes, its sizes, and what it recommends."""
    note = note_of("shapes", resolve("shapes"), digest="sha256:1")
    assert (note.fault, note.pipeline, note.dtype, note.takes) == ("", "StableDiffusionPipeline", "float16", "prompt")
    assert (note.token_limit, note.height, note.width, note.size_factor) == (24, 64, 64, 8)
    assert (note.inverts, note.recommended["num_inference_steps"], note.digest) == (True, 20, "sha256:1")
    assert 8e6 < note.size_bytes < 9e6


def with_weights(folder: Path) -> Path:
    """Give a folder's files of weights one number each."""
    for path in folder.rglob("*.safetensors"):
        write_tensors(path, {"a": np.zeros(1, np.float32)})
    return folder


def test_kinds_that_take_no_prompt_have_no_token_limit(tmp_path: Path) -> None:
    """Classes are counted instead; a fixed size is said."""
    for kind in (DIT, DDPM):
        (tmp_path / kind).mkdir()
    dit = note_of("dit", with_weights(write(tmp_path / DIT, DIT)))
    assert (dit.classes, dit.token_limit, dit.fixed_size, dit.takes) == (1000, None, True, "class_label")
    ddpm = note_of("ddpm", with_weights(write(tmp_path / DDPM, DDPM)))
    assert (ddpm.classes, ddpm.token_limit, ddpm.takes, ddpm.dtype) == (None, None, "nothing", "float32")


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    """Pickles, weights that are none, settings that no request can have."""
    for name in ("pickled", "text", "settings"):
        shutil.copytree(resolve("shapes"), tmp_path / name)
    weights = tmp_path / "pickled/unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    (tmp_path / "text/unet/diffusion_pytorch_model.safetensors").write_text("<html>404</html>")
    (tmp_path / "settings" / RECOMMENDED).write_text('{"steps": 20}')
    (tmp_path / "nothing").mkdir()
    (tmp_path / "v1.safetensors").write_bytes(b"")
    given = [tmp_path]
    places = places_to_note(given)
    assert [path.name for _, path in places] == ["shapes", "pickled", "settings", "text"]
    faults = {path.name: note_of(name, path).fault for name, path in places}
    assert faults["shapes"] == ""
    assert "pickled weights can run code" in faults["pickled"]
    assert "must be safetensors, got a file that begins otherwise" in faults["text"]
    assert "got 'steps' in" in faults["settings"]
    [single] = single_files(given)
    assert single.fault.startswith(
        f"it is the single file {tmp_path}/v1.safetensors; make a folder of it: ddim-fleet models"
    )


def test_each_variant_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    """A folder of one variant alone is one, and is listed once."""
    mine = Path(shutil.copytree(resolve("shapes"), tmp_path / "mine"))
    weights = mine / "unet/diffusion_pytorch_model.safetensors"
    half = weights.with_name("diffusion_pytorch_model.fp16.safetensors")
    shutil.copyfile(weights, half)
    assert variants_to_note(mine) == [None, "fp16"]
    weights.unlink()
    assert variants_to_note(mine) == [None]
    assert note_of("mine", mine).variant == "fp16"


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    """With numbers of no axis and of none at all; 16 bits are a bfloat16."""
    tensors = {
        "a": np.arange(6, dtype=np.float16).reshape(2, 3),
        "b": np.array(1.5, np.float32),
        "c": np.zeros((0, 4), np.float64),
        "d": np.array([[1, 65535]], np.uint16),
    }
    write_tensors(tmp_path / "a.safetensors", tensors)
    places = tensors_of(tmp_path / "a.safetensors")
    assert {name: place.dtype for name, place in places.items()} == {"a": "F16", "b": "F32", "c": "F64", "d": "BF16"}
    for name, tensor in tensors.items():
        read = places[name].bits(tmp_path / "a.safetensors")
        assert (read.shape, read.dtype, read.tobytes()) == (tensor.shape, tensor.dtype, tensor.tobytes())
    safetensors = pytest.importorskip("safetensors.numpy")
    del tensors["d"]  # which NumPy does not have
    write_tensors(tmp_path / "b.safetensors", tensors)
    assert all(np.array_equal(w, tensors[n]) for n, w in safetensors.load_file(tmp_path / "b.safetensors").items())


def test_a_file_that_is_cut_short_is_told_from_one_that_is_whole(tmp_path: Path) -> None:
    """As a download that broke off leaves it; and 8-bit floats are said to be none of ours."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": np.zeros(100, np.float32)})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"must have \d+ bytes, as it says itself, got \d+; fetch it again"):
        tensors_of(path)
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"1")
    with pytest.raises(CheckpointError, match=r"weights must be float64, .*, got F8_E4M3 \[1\] in"):
        tensors_of(path)["a"].bits(path)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(data=st.binary(max_size=60), length=st.none() | st.integers(0, 2**64 - 1))
def test_whatever_a_file_holds_it_is_safetensors_or_refused(
    data: bytes, length: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A list of checkpoints must not end over one of them."""
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    path.write_bytes((length if length is not None else len(data)).to_bytes(8, "little") + data)
    try:
        assert isinstance(tensors_of(path), dict)
    except CheckpointError as error:
        assert "\n" not in str(error)
