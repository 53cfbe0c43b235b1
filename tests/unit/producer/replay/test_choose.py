"""Which rows are made again: by key, or by a seed that chooses the same ones again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.errors import InputError
from ddim_core.storage.run_folder import RunFolder
from producer.replay import chosen_rows, row_of
from tests.unit.storage.runs import SmallRun, write_run

RUN = SmallRun(prompts=[f"p{n}" for n in range(23)], failing=frozenset({"p3", "p22"}), images_per_chunk=4, side_px=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 23 images, two of them failed."""
    return write_run(str(tmp_path_factory.mktemp("choose") / "run"), RUN)


def keys(folder: RunFolder, count: int, seed: int) -> list[str]:
    """Return the keys that are chosen."""
    return [row.key for row in chosen_rows(folder, count, seed)]


def test_a_seed_chooses_the_same_images_again(folder: RunFolder) -> None:
    """Of all chunks, in the order of keys, none twice; another seed chooses others."""
    first = keys(folder, 7, 1)
    assert first == keys(folder, 7, 1) == sorted(set(first))
    assert len(first) == 7 and first != keys(folder, 7, 2)
    assert {key for seed in range(40) for key in keys(folder, 3, seed)} == set(keys(folder, 100, 0))


def test_images_that_failed_are_not_chosen(folder: RunFolder) -> None:
    """There is nothing to compare them with; where more are asked for than there are, all of them come."""
    assert len(keys(folder, 21, 5)) == len(keys(folder, 22, 5)) == 21
    assert not {"000000003", "000050002"} & set(keys(folder, 21, 5))


def test_a_row_is_found_by_its_key_also_if_it_failed(folder: RunFolder, tmp_path: Path) -> None:
    """And as soon as its chunk is done."""
    assert row_of(folder, "000050001").prompt == "p21"
    assert row_of(folder, "000000003").status == "failed"
    half = write_run(str(tmp_path / "half"), SmallRun(committed=1))
    assert row_of(half, "000000001").custom_id == "r1"


def test_an_image_that_is_not_made_yet_is_no_wrong_key(tmp_path: Path) -> None:
    """The run has it, and will make it."""
    half = write_run(str(tmp_path / "half"), SmallRun(committed=0))
    with pytest.raises(InputError, match=r"but chunk 0 of file://.*, which 000000000 is in, is not done; to follow"):
        row_of(half, "000000000")


@pytest.mark.parametrize(
    "key", ["", "7", "000000009", "000990000", "../../etc", "00000000a", "-00000001", "\u0660" * 9]
)
def test_a_key_that_the_run_does_not_have_is_named(folder: RunFolder, key: str) -> None:
    """Whatever it looks like."""
    with pytest.raises(InputError, match=r"^a key must be one of the rows in parts/ of file://.*, got "):
        row_of(folder, key)
