"""A run's images in Python."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.errors import InputError, StorageError
from ddim_core.storage.run_folder import RunFolder, encode_part, part_path, shard_path
from producer import Client
from producer.images import reading
from producer.images.reader import RunReader
from tests.unit.producer.images.conftest import Written
from tests.unit.storage.runs import draw


def pixels(data: bytes) -> bytes:
    """Return what a picture shows."""
    return Image.open(io.BytesIO(data)).tobytes()


def test_an_image_is_had_by_its_key_or_its_name(written: Written) -> None:
    """Decoded and whole; a name that several images have is one fault, which says their keys."""
    run = RunReader(written())
    image = run.image("000010001")
    assert (image.format, image.size, image.tobytes()) == ("PNG", (64, 64), pixels(draw("a green square 1", 64)))
    with pytest.raises(InputError, match=r"got 'star-7' with 2; name one: 000000000, 000000001, \.\.\.$"):
        run.image("star-7")
    with pytest.raises(InputError, match=r"'star-8' is neither, did you mean star-7\?$"):
        run.image("star-8")


def test_a_request_of_one_image_is_enough(written: Written) -> None:
    """Its name is the image's; without Redis, through the client."""
    url = written(images=1).url
    client = Client("redis://127.0.0.1:1/0")
    assert client.run(url).image("Star/7").tobytes() == pixels(draw("a green square 1", 64))
    assert client.run(url).image("000010000", by="custom_id").tobytes() == pixels(draw("a yellow square 3", 64))


@pytest.mark.parametrize("container", ["webdataset", "files"])
def test_images_come_with_their_rows_in_the_order_of_keys(
    written: Written, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that was made so far; batches are cut where they would be too large, and nothing is lost between them."""
    monkeypatch.setattr(reading, "BATCH_BYTES", 300)
    run = RunReader(written(container=container, failing=frozenset({"a green square 1"}), committed=4))
    pairs = [(record.key, image.tobytes()) for record, image in run.images()]
    made = [row for row in run.records() if row.sha256 is not None]
    assert pairs == [(row.key, pixels(draw(row.prompt, 64))) for row in made]
    assert len(pairs) == 6


def test_a_damaged_image_is_never_shown(written: Written) -> None:
    """Neither alone nor among others; those before it are."""
    folder = written()
    data = bytearray(folder.store.get(shard_path(1)))
    data[560] ^= 1
    folder.store.put(shard_path(1), bytes(data))
    run, seen = RunReader(folder), []
    with pytest.raises(StorageError, match=r"image 000010000 must be in shards/00001\.tar .*: ddim-fleet verify file:"):
        seen.extend(record.key for record, _ in run.images())
    assert seen == ["000000000", "000000001"]
    with pytest.raises(StorageError, match=r"^image 000010000 must be in shards/00001\.tar with sha256 [0-9a-f]{64}"):
        run.image("000010000")
    assert run.image("000010001").size == (64, 64)


def test_what_is_no_picture_is_an_error(written: Written) -> None:
    """Though its hash is right."""
    folder = written(container="files")
    row, other = folder.read_records(0)
    folder.store.put(str(row.path), b"text")
    entry = {"size_bytes": 4, "sha256": "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"}
    folder.store.put(part_path(0), encode_part([replace(row, **entry), other]))
    with pytest.raises(StorageError, match=r"^image 000000000 of file://\S*run must be one, got: cannot identify"):
        RunReader(folder).image("000000000")


def test_a_download_is_an_extraction(written: Written, tmp_path: Path) -> None:
    """What cannot be had is one error, after all else is there."""
    folder = written()
    done = RunReader(folder).download(tmp_path / "some", ["star-7"], captions=True)
    assert (done.written, len(list((tmp_path / "some").iterdir()))) == (2, 4)
    folder.store.delete(shard_path(0))
    with pytest.raises(StorageError, match=r"^all images must be in \S*all, got 2 that are not: image 000000000 must"):
        RunReader(folder).download(str(tmp_path / "all"))
    assert len(list((tmp_path / "all").iterdir())) == 10


def test_the_report_goes_where_it_is_told(written: Written, tmp_path: Path) -> None:
    """Into the run, or elsewhere; a path is returned that can be opened."""
    folder = written()
    assert RunReader(folder).report() == str(tmp_path / "run" / "report.html")
    assert RunReader(folder).report(tmp_path / "here") == str(tmp_path / "here" / "report.html")
    assert (tmp_path / "here" / "report.html").exists()


def test_records_have_mappings(written: Written) -> None:
    """What a request was labelled with is read as it was given."""
    folder = written()
    rows = [replace(row, metadata={"split": "train", "ein ß": '"'}) for row in folder.read_records(0)]
    folder.store.put(part_path(0), encode_part(rows))
    assert next(RunReader(RunFolder(folder.url)).records()).metadata == {"split": "train", "ein ß": '"'}
