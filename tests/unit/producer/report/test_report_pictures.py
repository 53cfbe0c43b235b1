"""Pictures: small images as they are, large ones as thumbnails, and words where there is none."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.contracts.plan import Container
from ddim_core.contracts.record import Record
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import file_entry, shard_path
from producer.report.pictures import SIDE_PX, Picture, PictureReader, picture
from tests.unit.storage.runs import SmallRun, draw, write_run


def decoded(found: Picture) -> Image.Image:
    """Return the image that a data URI holds."""
    return Image.open(io.BytesIO(base64.b64decode(found.source.partition(",")[2])))


def noise(width_px: int, height_px: int) -> bytes:
    """Return a PNG that compresses badly."""
    sink = io.BytesIO()
    Image.effect_noise((width_px, height_px), 80).convert("RGB").save(sink, "PNG")
    return sink.getvalue()


def read(store: ObjectStore, record: Record) -> Picture | str:
    """Return what a reader finds for one row."""
    with PictureReader(store) as reader:
        return reader.read([record])[record.key]


def test_a_small_image_is_kept_byte_for_byte_and_shown_in_whole_multiples() -> None:
    """A pixel of a 64 pixel image becomes a square of 3 by 3."""
    found = picture(draw("a red circle", 64))
    assert (found.width_px, found.height_px, found.enlarged) == (192, 192, True)
    assert found.source == "data:image/png;base64," + base64.b64encode(draw("a red circle", 64)).decode()


@pytest.mark.parametrize(
    ("size", "shown"), [((1024, 512), (192, 96)), ((192, 192), (192, 192)), ((90, 90), (180, 180))]
)
def test_a_large_image_becomes_a_thumbnail_of_the_same_shape(size: tuple[int, int], shown: tuple[int, int]) -> None:
    """Large in pixels or in bytes: a page of 60 must stay a page that a browser opens at once."""
    data = noise(*size)
    found = picture(data)
    assert (found.width_px, found.height_px) == shown
    assert found.source.startswith("data:image/webp;base64,")
    assert decoded(found).width == min(size[0], SIDE_PX)
    assert len(found.source) < 2 * SIDE_PX * SIDE_PX * 3 / 4


@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_images_are_read_from_either_container(tmp_path: Path, container: Container) -> None:
    """Each row leads to the picture that its prompt asked for."""
    folder = write_run(str(tmp_path), SmallRun(container=container))
    with PictureReader(folder.store) as reader:
        for chunk in (0, 1):
            rows = folder.read_records(chunk)
            assert reader.read(rows) == {row.key: picture(draw(row.prompt, 64)) for row in rows}


def test_an_image_that_is_missing_damaged_or_none_is_said_to_be(tmp_path: Path, record: Record) -> None:
    """A report must come out even where the run's folder has been tampered with."""
    store = write_run(str(tmp_path / "again"), SmallRun()).store
    assert read(store, replace(record, sha256="0" * 64)) == "damaged in shards/00000.tar"
    assert read(store, replace(record, key="999999999")) == "missing in shards/00000.tar"
    assert read(store, replace(record, path="images/000000000.png")) == "missing in images/000000000.png"
    for cut_at in (700, 100):  # in the middle of the image, and of its header
        store.put(shard_path(0), store.get(shard_path(0))[:cut_at])
        assert read(store, record) == "missing in shards/00000.tar"
    store.delete(shard_path(0))
    assert read(store, record) == "missing in shards/00000.tar"


@pytest.mark.parametrize("data", [b"no image", draw("a red circle", 64)[:200]])
def test_what_pillow_cannot_decode_is_said_to_be_no_image(tmp_path: Path, record: Record, data: bytes) -> None:
    """Also where its hash is right: the page must not show a broken picture."""
    store = ObjectStore(str(tmp_path))
    store.put("images/x.png", data)
    row = replace(record, path="images/x.png", sha256=file_entry("x", data).sha256)
    assert read(store, row) == "no png image in images/x.png"
