"""What people may call an image, and what they are told where there is none of that name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.errors import InputError, StorageError
from ddim_core.storage.run_folder import RunFolder, part_path
from producer.images.naming import By, chosen
from tests.unit.producer.images.conftest import IDS, NamedRun, Written
from tests.unit.storage.runs import write_run


@pytest.mark.parametrize(
    ("names", "by", "keys"),
    [
        (["000000001"], None, ["000000001"]),
        (["star-7"], None, ["000000000", "000000001"]),
        (["Star/7", "000050001", "Star/7"], None, ["000010000", "000010001", "000050001"]),
        (["000000001"], "key", ["000000001"]),
        (["000010000"], "key", ["000010000"]),
        (["000010000"], "custom_id", ["000030000", "000030001"]),
        (["000000002"], None, ["000020000", "000020001"]),
        (["../x"], None, ["000040000", "000040001"]),
    ],
)
def test_a_name_is_a_key_or_a_custom_id(written: Written, names: list[str], by: By | None, keys: list[str]) -> None:
    """A key names one image, an id all of its request; repetitions and overlaps name them once."""
    assert chosen(written(), names, by).keys == keys


@pytest.mark.parametrize(
    ("names", "by", "words"),
    [
        (["star7"], None, r"'star7' is neither, did you mean star-7\?"),
        (["000050002"], None, r"'000050002' is neither, did you mean 000050001\?"),
        (["star-7"], "key", r"'star-7' is no key$"),
        (["000050000"], "custom_id", r"'000050000' is no custom_id but a key$"),
        (["no", "nor", "star-7"], None, r"'no' is neither; 'nor' is neither"),
        ([str(n) for n in range(9)], None, r"; and 4 more"),
        ([""], None, r"'' is neither"),
        (["x" * 500], None, r"'x{70,}\.\.\. is neither"),
        (["\ud800"], None, r"'\\ud800' is neither"),
        (["000000000000000000"], None, r"'0{18}' is neither"),
    ],
)
def test_unknown_names_are_one_fault_with_the_nearest_name(
    written: Written, names: list[str], by: By | None, words: str
) -> None:
    """However many there are."""
    start = r"^a KEY must be the key or the custom_id of an image of file://\S*, but .*"
    with pytest.raises(InputError, match=start + words):
        chosen(written(), names, by)


def test_a_key_that_is_also_somebodys_name_must_be_told_apart(written: Written) -> None:
    """Where requests are named like keys: a wrong picture would look as right as the right one."""
    ids = ("000010000", "000020001", "000000000", "plain")
    folder = written(ids, images=1)
    for name in ("000010000", "000000000"):
        with pytest.raises(InputError, match=rf"'{name}' is both, and as a key it is .*; say which with --by$"):
            chosen(folder, [name])
    assert chosen(folder, ["000010000"], "custom_id").keys == ["000000000"]


def test_numbers_of_unnamed_requests_are_no_reason_to_ask(written: Written) -> None:
    """Every key of a run of plain prompts may be the number of another request."""
    folder = written(tuple(f"{number:09d}" for number in range(4)))
    assert chosen(folder, ["000000001"]).keys == ["000000001"]
    assert chosen(folder, ["000000001"], "custom_id").keys == ["000010000", "000010001"]
    assert chosen(folder, ["000000003"]).keys == ["000030000", "000030001"]


def test_what_is_not_made_yet_or_could_not_be_is_said_to_be(written: Written) -> None:
    """These names are right: who asks shall wait, or look at what failed."""
    folder = written(committed=3, failing=frozenset({"a green square 1"}))
    for name, words in (
        ("000050001", r"'000050001' is not made yet \(3 of 6 chunks are done\)$"),
        ("../x", r"'\.\./x' is neither.* \(3 of 6 chunks are done\)$"),
        ("000010001", r"'000010001' could not be made \(not_finite\)"),
        ("Star/7", r"'Star/7' could not be made \(not_finite\)"),
    ):
        with pytest.raises(InputError, match=words):
            chosen(folder, [name])
    assert chosen(folder, ["star-7"]).keys == ["000000000", "000000001"]


def test_a_damaged_part_is_the_stores_fault(written: Written) -> None:
    """Not the name's."""
    folder = written()
    folder.store.put(part_path(1), b"no parquet")
    with pytest.raises(StorageError, match=r"parts/00001\.parquet is damaged"):
        chosen(folder, ["star-7"])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{7,12}", fullmatch=True)), min_size=1, max_size=4))
def test_no_name_brings_anything_but_images_or_one_fault(run_of_six: RunFolder, names: list[str]) -> None:
    """Whatever is typed."""
    try:
        assert chosen(run_of_six, names).keys
    except InputError as exc:
        assert str(exc).startswith("a KEY must be")


@pytest.fixture(scope="module")
def run_of_six(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that no test changes."""
    return write_run(str(tmp_path_factory.mktemp("run")), NamedRun(prompts=("a red square",) * len(IDS)))


def test_a_name_may_be_a_number_as_custom_ids_may_be(written: Written) -> None:
    """And one name is no list of its letters."""
    folder = written(ids=("7", "b", "c", "d", "e", "f"))
    assert chosen(folder, [7]).keys == chosen(folder, [np.int64(7)]).keys == chosen(folder, "7").keys  # type: ignore[list-item]
    assert len(chosen(folder, "7").keys) == 2
    for wrong in (None, 7.5, b"7"):
        with pytest.raises(InputError, match=r"^a KEY must be a text or a whole number, got "):
            chosen(folder, [wrong])  # type: ignore[list-item]
