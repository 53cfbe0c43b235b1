"""Images made again from rows: what a row says of them, and what fails alone."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ddim_core.contracts.record import FAILED, SUCCESS, Record
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import DeviceError, InputError, SampleError
from tests.unit.workers.samples import FACTS, ScriptedSampler, items, loaded, picture, records
from workers.replay import make_again


def rows(count: int = 4) -> list[Record]:
    """Return the rows of images that another worker made."""
    elsewhere = replace(FACTS, device_kind="Ascend910B", device="npu:3", slots=16, dtype="float16")
    maker = replace(records(count, attempts=2), facts=elsewhere, worker="other/npu:3/9")
    return [maker.success(item, b"png", "shards/00000.tar", picture(item.spec)) for item in items(count)]


def test_a_new_row_says_what_is_asked_as_before_and_where_it_was_made(tmp_path: Path) -> None:
    """What the image is made from is the row's, what made it is this process's."""
    sampler = ScriptedSampler()
    old = rows()
    new = list(make_again(loaded(sampler), old, tmp_path))
    assert sampler.submitted == [item.spec for item in items(4)]
    here = {"attempts", "path", "size_bytes", "sha256", "device_kind", "device", "slots", "dtype", "worker", "versions"}
    changed = {
        name
        for row, was in zip(new, old, strict=True)
        for name in asdict(row)
        if asdict(row)[name] != asdict(was)[name]
    }
    assert changed <= here and {"sha256", "device_kind", "dtype", "worker"} < changed
    for row in new:
        data = (tmp_path / str(row.path)).read_bytes()
        assert (row.size_bytes, row.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert (row.device_kind, row.slots, row.dtype) == ("cpu", 2, "float32")
        assert set(json.loads(row.versions)) == {"pillow", "zlib"}


@pytest.mark.parametrize("error", [SampleError("NaN"), InputError("height must be a multiple of 8")])
def test_an_image_that_fails_alone_is_a_failed_row(tmp_path: Path, error: Exception) -> None:
    """Whether the sampler refuses it or fails at it; the others are made."""

    def answer(spec: SampleSpec) -> SampledImage:
        if spec.image_index == 1:
            raise error
        return picture(spec)

    class Refusing(ScriptedSampler):
        def submit(self, spec: SampleSpec) -> Future[SampledImage]:
            if isinstance(error, InputError) and spec.image_index == 1:
                raise error
            return super().submit(spec)

    new = list(make_again(loaded(Refusing(answer)), rows(), tmp_path))
    assert [row.status for row in new] == [SUCCESS, FAILED, SUCCESS, SUCCESS]
    assert (new[1].error_class, new[1].error_message) == (type(error).__name__, str(error))
    assert (new[1].path, new[1].sha256, len(list(tmp_path.iterdir()))) == (None, None, 3)


def test_a_broken_device_is_no_images_fault(tmp_path: Path) -> None:
    """It says nothing of the row."""

    def answer(spec: SampleSpec) -> SampledImage:
        raise DeviceError("lost")

    with pytest.raises(DeviceError, match=r"^lost$"):
        list(make_again(loaded(ScriptedSampler(answer)), rows(), tmp_path))


def test_memory_holds_no_more_than_a_few_images_at_a_time(tmp_path: Path) -> None:
    """Thousands may be asked for."""
    sampler = ScriptedSampler()
    new = make_again(loaded(sampler), rows(300), tmp_path)
    next(new)
    assert len(sampler.submitted) == 64
    assert len(list(new)) == 299
