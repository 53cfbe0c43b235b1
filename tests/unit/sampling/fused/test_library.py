"""Which library is loaded: the best that the CPU has, built from the sources that are there, from nowhere else."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from ddim_core.sampling.fused import library, sources
from ddim_core.sampling.fused.library import Found, find_library, instruction_sets
from ddim_core.sampling.fused.sources import INSTRUCTION_SETS, MARK, hash_in, library_name, sources_hash

V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "sse4_2"})
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that carry the right hash, on a machine that can run them."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(library, "_cpu_flags", lambda: V4)
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in INSTRUCTION_SETS["x86_64"]:
        (folder / library_name(name)).write_bytes(b"\x7fELF" + MARK + sources_hash().encode() + b"\0")
    return folder


def test_the_best_instruction_set_of_the_cpu_is_chosen() -> None:
    """Other CPUs have none, and one that lacks a flag has the next best."""
    assert instruction_sets("x86_64", V4) == ["x86-64-v4", "x86-64-v3"]
    assert instruction_sets("x86_64", V4 - {"avx512vl"}) == ["x86-64-v3"]
    assert instruction_sets("x86_64", V3 - {"fma"}) == []
    assert instruction_sets("aarch64", frozenset()) == ["aarch64"]
    assert instruction_sets("riscv64", V4) == []


def test_a_library_of_these_sources_is_found(folder: Path) -> None:
    """The better of two; the other one where it is missing. Rows call both the same."""
    found = find_library({}, folder)
    assert (found.path, str(found)) == (folder / "fused-x86-64-v4.so", "fused-1 (x86-64-v4)")
    (folder / "fused-x86-64-v4.so").unlink()
    found = find_library({}, folder)
    assert (found.instruction_set, found.kernels) == ("x86-64-v3", "fused-1")


def test_without_a_library_the_reason_is_told(folder: Path) -> None:
    """MindSpore's own kernels run then."""
    shutil.rmtree(folder)
    found = find_library({}, folder)
    assert (found.path, found.kernels) == (None, "mindspore")
    assert "were not built" in str(found)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", MARK + b"0" * 64, MARK + b"0"])
def test_a_library_of_other_sources_is_refused(folder: Path, content: bytes) -> None:
    """An installation that was updated in part would compute with kernels that are not those of its rows."""
    (folder / "fused-x86-64-v4.so").write_bytes(content)
    assert "were built from other sources" in find_library({}, folder).reason


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    """Code is loaded from the package alone."""
    elsewhere = folder.parent / "elsewhere.so"
    (folder / "fused-x86-64-v4.so").rename(elsewhere)
    (folder / "fused-x86-64-v4.so").symlink_to(elsewhere)
    assert "must lie in the package's folder" in find_library({}, folder).reason


def test_a_colon_in_the_path_is_refused(folder: Path) -> None:
    """MindSpore takes what follows it for the name of a function."""
    moved = folder.rename(folder.with_name("li:b"))
    assert "colon" in find_library({}, moved).reason


def test_mindspores_white_list_is_obeyed(folder: Path) -> None:
    """It raises for a library that lies elsewhere, and for a list that does not exist."""
    name = library.WHITE_LIST
    for listed in (folder, folder.parent):
        assert find_library({name: str(listed)}, folder).path is not None
    for listed in ("/usr", str(folder / "missing"), ""):
        found = find_library({name: listed}, folder)
        # The working folder is what an empty one means to MindSpore.
        assert found.path is not None or name in found.reason
    assert name in find_library({name: "/usr"}, folder).reason


def test_the_hash_is_that_of_every_source(tmp_path: Path) -> None:
    """Also of a header, of a file's name, and of the flags that it was compiled with."""
    copy = tmp_path / "csrc"
    shutil.copytree(sources.SOURCES, copy)
    assert sources_hash(copy) == sources_hash()
    (copy / "simd.h").write_bytes((copy / "simd.h").read_bytes() + b"\n")
    changed = sources_hash(copy)
    (copy / "simd.h").rename(copy / "simd2.h")
    assert len({sources_hash(), changed, sources_hash(copy)}) == 3


def test_the_hash_is_found_in_a_library() -> None:
    """Before it is loaded: a library runs code as soon as it is."""
    assert hash_in(b"abc" + MARK + b"f" * 64 + b"\0def") == "f" * 64
    assert hash_in(b"abc") is None


def test_what_was_built_here_carries_these_sources() -> None:
    """An editable install would go on with old kernels otherwise."""
    found = find_library({})
    if found.path is None and "not built" in found.reason:
        pytest.skip(found.reason)
    assert found == Found(found.path, found.instruction_set)
    assert found.path is not None
    assert hash_in(found.path.read_bytes()) == sources_hash()
