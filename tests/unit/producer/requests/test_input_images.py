"""Pictures that requests invert: what can be used, and what is said of what cannot."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.contracts.sample import Size
from ddim_core.errors import InputError, RequestFaults
from ddim_core.storage.run_folder import RunFolder
from producer.requests import input_images as pictures_module
from producer.requests.input_images import Pictures
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker

SIZE = Size(height=64, width=96)


def saved(path: Path, mode: str = "RGB", **options: object) -> str:
    Image.new(mode, (SIZE.width, SIZE.height), 0).save(path, **options)
    return str(path)


@pytest.mark.parametrize(("name", "ending"), [("a.png", "png"), ("b.jpeg", "jpg"), ("c.webp", "webp")])
def test_a_picture_is_copied_byte_for_byte_under_its_hash(tmp_path: Path, name: str, ending: str) -> None:
    """What it is follows from its bytes, and a run that holds it needs the original no more."""
    path = Path(saved(tmp_path / name))
    folder = RunFolder(str(tmp_path / "run"))
    with Pictures() as pictures:
        copy = pictures.add(str(path), SIZE)
        assert (
            pictures.add(path.as_uri(), SIZE)
            == copy
            == f"inputs/{hashlib.sha256(path.read_bytes()).hexdigest()}.{ending}"
        )
        data = path.read_bytes()
        path.unlink()
        pictures.write(folder)
    assert folder.store.get(copy) == data
    assert [name for name, _ in folder.store.list("inputs")] == [copy]


def test_pictures_that_cannot_be_used_are_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in one line, with what it must be."""
    whole = Path(saved(tmp_path / "whole.png"))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-40])
    (tmp_path / "text.png").write_text("no picture")
    frames = [Image.new("RGB", (96, 64), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:])
    refused = {
        "absent.png": "must be a picture that can be read, got .*absent.png': it does not exist",
        "": "must be a picture that can be read, got .*: Is a directory",
        "text.png": "must be a PNG, JPEG, WEBP file, got .*text.png'",
        "cut.png": "must be a whole picture, got .*cut.png': .*",
        "film.webp": "must be one RGB picture, got mode RGBX? in .*film.webp'",
    }
    saved(tmp_path / "film.gif")
    with Pictures() as pictures:
        for name, message in refused.items():
            with pytest.raises(InputError) as caught:
                pictures.add(str(tmp_path / name), SIZE)
            assert re.fullmatch(message, str(caught.value)), name
        with pytest.raises(InputError, match="must be a PNG, JPEG, WEBP file"):
            pictures.add(str(tmp_path / "film.gif"), SIZE)
        with pytest.raises(InputError, match="must be one RGB picture, got mode L in"):
            pictures.add(saved(tmp_path / "grey.png", "L"), SIZE)
        with pytest.raises(InputError, match="must be of 64x64 pixels, as the request, got 96x64 in"):
            pictures.add(str(whole), Size(64, 64))
        monkeypatch.setattr(pictures_module, "LARGEST_BYTES", 10)
        with pytest.raises(InputError, match=r"must have at most 10 bytes, got [0-9]+ in .*other\.png"):
            pictures.add(saved(tmp_path / "other.png"), SIZE)


def test_an_inversion_without_guidance_scale_has_none(tmp_path: Path, model: Model) -> None:
    """Guidance parts the way up from the way down; who wants it says so, in the line or for the run."""
    fields = {"prompt": "a", "width": 96, "invert": {"image": saved(tmp_path / "a.png")}}
    able = replace(model, inverts=True)
    with Pictures() as pictures:
        (request,) = [RequestChecker(able, {}, pictures=pictures).check(Row("p", 1, dict(fields)))]
        assert (request.guidance_scale, request.invert and request.invert.image[:7]) == (1.0, "inputs/")
        own = RequestChecker(able, {}, pictures=pictures).check(Row("p", 1, {**fields, "guidance_scale": 2.0}))
        runs = RequestChecker(able, {"guidance_scale": 3.0}, pictures=pictures).check(Row("p", 1, dict(fields)))
    assert (own.guidance_scale, runs.guidance_scale) == (2.0, 3.0)


def test_a_fault_names_the_field_and_a_checkpoint_that_inverts_none_says_so(tmp_path: Path, model: Model) -> None:
    """Nothing is queued with a picture that no worker can use."""
    row = Row("p.jsonl", 3, {"prompt": "a", "width": 96, "invert": {"image": saved(tmp_path / "a.png")}})
    with Pictures() as pictures:
        with pytest.raises(RequestFaults, match=r"p\.jsonl:3: invert must be left out with shapes, which is no Stable"):
            RequestChecker(model, {}, pictures=pictures).check(row)
        missing = replace(row, fields={**row.fields, "invert": {"image": "none.png"}})
        with pytest.raises(RequestFaults, match=r"p\.jsonl:3: invert\.image must be a picture that can be read"):
            RequestChecker(replace(model, inverts=True), {}, pictures=pictures).check(missing)
