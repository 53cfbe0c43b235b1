"""The bytes of images and shards."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile

import numpy as np
from PIL import Image

from ddim_core.contracts.record import Record
from tests.unit.workers.samples import items, picture, records
from workers.encode import ShardSample, encode_png, encode_sample_json, encode_shard


def test_a_png_holds_exactly_the_pixels() -> None:
    """Lossless, RGB, and height before width."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (40, 24), {})
        assert np.array_equal(np.asarray(image), pixels)


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
    return records(3).success(item, encode_png(picture(item.spec).pixels), "shards/00000.tar", 1.5)


def _open(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))
