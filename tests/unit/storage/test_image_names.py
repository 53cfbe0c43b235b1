"""Where images go that are files of their own: within the run's folder, one name each, however hostile the id."""

from __future__ import annotations

from itertools import product
from pathlib import PurePosixPath

import pytest

from ddim_core.contracts.plan import RunPlan, image_key
from ddim_core.storage.image_names import FILES_PER_FOLDER, IMAGE_PATH, image_path, readable_name
from tests.unit.storage.runs import SmallRun, small_plan

HOSTILE = (
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "a/b",
    "a\\b",
    "nul\0",
    "con:",
    "-rf",
    "~",
    "x" * 256,
    "图" * 256,
    "a b",
    "A",
    "a",
    "a_1",
    "a\nb",
    "é",
    "e\u0301",
    "a~559aead08264d579",
    "\ud800",
    "#1",
    "%2e%2e%2f",
)


def plan(container: str, images_per_chunk: int = 2) -> RunPlan:
    """Return a plan of that container."""
    return small_plan(SmallRun()).model_copy(update={"container": container, "images_per_chunk": images_per_chunk})


@pytest.mark.parametrize("custom_id", HOSTILE)
def test_a_name_stays_in_its_folder(custom_id: str) -> None:
    """One path component, short enough for every file system, of characters that none minds."""
    path = image_path(plan("files"), "000000000", custom_id, 0)
    folder, name = path.split("/")
    assert folder == "images" and PurePosixPath(path).name == name
    assert len(name.encode()) < 200 and name.isascii() and not name.startswith((".", "-", "/"))
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_~.") and name.count(".") == 1


def test_no_two_images_share_a_name_even_where_capitals_do_not_count() -> None:
    """An id that looks like another's with its number, or like another's hash, is no way to overwrite it."""
    pairs = list(product(HOSTILE, range(3)))
    paths = {image_path(plan("files"), "000000000", custom_id, image).lower() for custom_id, image in pairs}
    assert len(paths) == len(pairs)
    assert all(IMAGE_PATH.fullmatch(path) for path in paths)


@pytest.mark.parametrize(
    "path", [*HOSTILE, "images/../run.json", "images/a.png/b", "images/..", "shards/00000.tar", "images/.png"]
)
def test_no_other_path_passes_for_an_image(path: str) -> None:
    """A row that somebody changed may name anything."""
    assert not IMAGE_PATH.fullmatch(path)


def test_a_plain_id_is_the_name() -> None:
    """What a person looks for; an image folder goes by keys, which sort."""
    assert image_path(plan("files"), "000030001", "star-7", 2) == "images/star-7_2.png"
    assert image_path(plan("imagefolder"), "000030001", "star-7", 2) == "images/000030001.png"
    assert readable_name("A large STAR!").startswith("a-large-star~")


@pytest.mark.parametrize("images_per_chunk", [1, 7, 1000, 10_000])
def test_no_folder_gets_more_files_than_loaders_take(images_per_chunk: int) -> None:
    """A chunk's images stay together, and where they go does not depend on how large the run becomes."""
    counts: dict[str, int] = {}
    for chunk in range(3 * FILES_PER_FOLDER // images_per_chunk + 1):
        path = image_path(plan("imagefolder", images_per_chunk), image_key(chunk, 0), "x", 0)
        folder = path.rpartition("/")[0]
        counts[folder] = counts.get(folder, 0) + images_per_chunk
    assert list(counts)[:3] == ["images", "images/00001", "images/00002"]
    assert max(counts.values()) <= FILES_PER_FOLDER
