"""The bytes of images and shards."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from ddim_core.contracts.image_encoding import ImageEncoding, ImageFormat
from ddim_core.contracts.record import Record
from ddim_core.errors import SampleError
from tests.unit.workers.samples import FACTS, items, picture, plan, records
from workers.chunks.encode import ShardSample, encode_image, encode_sample_json, encode_shard, encoder_versions
from workers.chunks.records import RecordMaker

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
SLOPE = np.linspace(0, 255, 24 * 40 * 3).reshape(24, 40, 3).astype(np.uint8)


@pytest.mark.parametrize(("encoding", "name"), [(ImageEncoding("png"), "PNG"), (ImageEncoding("webp"), "WEBP")])
def test_a_lossless_image_holds_exactly_the_pixels(encoding: ImageEncoding, name: str) -> None:
    """RGB, and height before width."""
    with Image.open(io.BytesIO(encode_image(NOISE, encoding))) as image:
        assert (image.format, image.mode, image.size) == (name, "RGB", (40, 24))
        assert np.array_equal(np.asarray(image), NOISE)


@pytest.mark.parametrize(("name", "suffix"), [("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_lossy_image_comes_as_near_as_its_quality(name: str, suffix: ImageFormat) -> None:
    """And is the smaller for a lower one; the tolerance is a few levels, as a smooth picture allows."""
    files = {quality: encode_image(SLOPE, ImageEncoding(suffix, quality)) for quality in (5, 60, 95)}
    assert len(files[5]) < len(files[60]) < len(files[95])
    with Image.open(io.BytesIO(files[95])) as image:
        assert (image.format, image.mode, image.size) == (name, "RGB", (40, 24))
        assert np.abs(np.asarray(image).astype(int) - SLOPE).mean() < 4


@pytest.mark.parametrize(
    "encoding", [ImageEncoding("png"), ImageEncoding("jpg", 90), ImageEncoding("webp", 90), ImageEncoding("webp")]
)
def test_an_image_is_the_same_bytes_again_and_carries_nothing_else(encoding: ImageEncoding) -> None:
    """No time, program, colour profile or EXIF: what a file says beyond its pixels would change its bytes."""
    data = encode_image(NOISE, encoding)
    assert encode_image(NOISE.copy(), encoding) == data
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif()
        assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert all(word not in data for word in (b"tEXt", b"iTXt", b"tIME", b"EXIF", b"Exif", b"ICC"))


def test_a_png_keeps_the_bytes_it_always_had() -> None:
    """Of a picture that zlib 1.2 and zlib-ng compress alike; another level or chunk would show."""
    data = encode_image(np.zeros((1, 1, 3), np.uint8), ImageEncoding())
    assert data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0")
    assert [data.count(chunk) for chunk in (b"IHDR", b"IDAT", b"IEND")] == [1, 1, 1]
    sink = io.BytesIO()
    Image.fromarray(NOISE).save(sink, "PNG", compress_level=6)
    assert encode_image(NOISE, ImageEncoding()) == sink.getvalue()


def test_a_size_that_the_format_has_no_room_for_is_that_images_fault() -> None:
    """WebP ends at 16383 pixels."""
    with pytest.raises(SampleError, match=r"^16384 x 1 pixels could not become webp: "):
        encode_image(np.zeros((1, 16384, 3), np.uint8), ImageEncoding("webp"))


@pytest.mark.parametrize(("suffix", "library"), [("png", "zlib"), ("jpg", "libjpeg-turbo"), ("webp", "libwebp")])
def test_the_row_names_what_encoded_its_image(suffix: ImageFormat, library: str) -> None:
    """Another version may write other bytes for the same pixels."""
    assert set(encoder_versions(suffix)) == {"pillow", library}
    run = plan(1).model_copy(update={"image_format": suffix, "quality": None if suffix == "png" else 80})
    item = items(1)[0]
    row = RecordMaker(run, FACTS, "w", 1).success(item, b"x", "images/x", picture(item.spec))
    assert (row.format, row.quality) == (suffix, run.quality)
    assert json.loads(row.versions) == encoder_versions(suffix)


def test_a_shard_has_adjacent_members_without_dots_in_their_keys() -> None:
    """WebDataset groups neighbours by what stands before the first dot."""
    with _open(encode_shard(_samples())) as tar:
        names = tar.getnames()
    assert names[:4] == ["000000000.png", "000000000.txt", "000000000.json", "000000001.png"]
    assert len(names) == 9


def test_a_shard_made_again_has_the_same_bytes() -> None:
    """No time, owner or worker in it: neither another attempt nor another worker changes a byte."""
    first = encode_shard(_samples())
    other = [
        ShardSample(dataclasses.replace(s.record, worker="other/npu:3/9", attempts=4, seconds=9.0), s.image)
        for s in _samples()
    ]
    assert encode_shard(other) == first
    with _open(first) as tar:
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname) for m in tar} == {(0, 0, 0, 0o644, "", "")}


def test_a_samples_json_has_no_null_and_floats_as_floats() -> None:
    """Loaders take a column's type from its first value: an int there would cut later floats, null would lose them."""
    data = json.loads(encode_sample_json(_samples()[0].record))
    assert None not in data.values()
    assert (data["guidance_scale"], type(data["guidance_scale"])) == (7.0, float)
    assert (data["seed"], data["custom_id"], data["metadata"]) == (7, "c", '{"a": "1", "b": "2"}')
    text = encode_sample_json(_samples()[0].record).decode()
    assert '"guidance_scale": 7.0' in text and '"eta": 0.0' in text


def test_a_class_label_is_in_every_samples_json_or_in_none() -> None:
    """A column that is null in one shard and a number in the next has no type."""
    record = _samples()[0].record
    assert "class_label" not in json.loads(encode_sample_json(record))
    assert json.loads(encode_sample_json(dataclasses.replace(record, class_label=0)))["class_label"] == 0


def test_a_prompt_of_any_script_stands_in_the_text_member() -> None:
    """UTF-8, unescaped."""
    record = dataclasses.replace(_samples()[0].record, prompt="一只猫 ☆")
    with _open(encode_shard([ShardSample(record, b"png")])) as tar:
        member = tar.extractfile("000000000.txt")
        assert member is not None and member.read().decode() == "一只猫 ☆"


def _samples() -> list[ShardSample]:
    return [ShardSample(_record(index), b"image") for index in range(3)]


def _record(index: int) -> Record:
    item = items(3)[index]
    image = picture(item.spec)
    return records(3).success(item, encode_image(image.pixels, ImageEncoding()), "shards/00000.tar", image)


def _open(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))
