"""Several inputs are one run's, named one by one, as URLs or by a pattern."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.errors import InputError, RequestFaults
from producer.inputs import read_rows, source_of
from producer.inputs.sources import matches_path
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]


def prompts_of(*prompts: str) -> list[str]:
    return [row.fields["prompt"] for row in read_rows(*prompts) if isinstance(row, Row)]


def test_files_of_different_formats_come_one_after_another(write: WriteFile) -> None:
    """In the order in which they are named; a row knows its file."""
    paths = [write("b.jsonl", '{"prompt": "b"}\n'), write("a.csv", "prompt\na\n"), write("c.txt", "c\n")]
    assert prompts_of(*paths) == ["b", "a", "c"]
    assert [row.source for row in read_rows(*paths)] == paths


def test_a_pattern_names_its_matches_in_order(tmp_path: Path) -> None:
    """Also below folders, where the shell did not expand it; folders themselves are no input."""
    for name in ("2.txt", "10.txt", "sub/3.txt", "x.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "folder.txt").mkdir()
    assert prompts_of(f"{tmp_path}/*.txt") == ["10.txt", "2.txt"]
    assert prompts_of(f"{tmp_path}/**/*.txt") == ["10.txt", "2.txt", "sub/3.txt"]
    assert prompts_of(f"{tmp_path}/[0-9].txt") == ["2.txt"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    """``prompts [1].txt`` is what browsers call a second download."""
    (tmp_path / "p [1].txt").write_text("a\n")
    assert prompts_of(str(tmp_path / "p [1].txt")) == ["a"]


def test_a_file_url_names_a_file(tmp_path: Path) -> None:
    """Percent-encoded, as the output is."""
    (tmp_path / "a b.txt").write_text("a\n")
    assert prompts_of(f"file://{tmp_path}/a%20b.txt") == ["a"]


@pytest.mark.parametrize("url", ["https://example.org/p.jsonl", "gs://bucket/p.jsonl"])
def test_another_scheme_is_refused_as_one(url: str) -> None:
    """A file of that name was never meant."""
    with pytest.raises(InputError, match=rf"^a store URL must start with one of file://, s3:// .*, got '{url}'$"):
        list(read_rows(url))


def test_a_path_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    """In one line, like a missing one."""
    name = f"{tmp_path}/{'x' * 300}*.txt"
    with pytest.raises(InputError, match=r"^the prompts must be a file that can be read, got .*: file name too long$"):
        list(read_rows(name))


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    """A run of nothing was not meant."""
    with pytest.raises(InputError, match=rf"^a pattern must match at least one file, got '{tmp_path}/\*\.txt'$"):
        list(read_rows(f"{tmp_path}/*.txt"))


@pytest.mark.parametrize(
    ("last", "rule"), [("no.txt", "it does not exist"), ("b.doc", r"the name of a prompts file must end in one of .*")]
)
def test_a_wrong_name_is_found_before_a_line_is_read(write: WriteFile, last: str, rule: str) -> None:
    """Reading the first of two large files takes minutes."""
    first = write("a.txt", "a\n")
    write("b.doc", "a")
    with pytest.raises(InputError, match=rule):
        next(iter(read_rows(first, str(Path(first).with_name(last)))))


def test_an_id_that_two_files_have_names_both(model: Model, write: WriteFile) -> None:
    """The file belongs to the place as soon as there are two."""
    first = write("a.jsonl", '\n{"prompt": "a", "custom_id": "x"}\n')
    second = write("b.jsonl", '{"prompt": "b", "custom_id": "x"}\n')
    rule = f"^{second}:1: custom_id must be unique, got 'x', which {first}:2 has$"
    with pytest.raises(RequestFaults, match=rule):
        list(checked(read_rows(first, second), RequestChecker(model, {}), source_of(first, second)))


@pytest.mark.parametrize(
    ("path", "pattern", "matches"),
    [
        ("a.jsonl", "*.jsonl", True),
        ("d/a.jsonl", "*.jsonl", False),
        ("d/a.jsonl", "*/*.jsonl", True),
        ("a.jsonl", "**/*.jsonl", True),
        ("d/e/a.jsonl", "**/*.jsonl", True),
        ("d/e/a.jsonl", "d/**", True),
        ("d/e/a.jsonl", "e/**", False),
        ("a1.jsonl", "a[0-9].jsonl", True),
        ("ab.jsonl", "a[0-9].jsonl", False),
    ],
)
def test_patterns_in_a_bucket_are_those_of_a_shell(path: str, pattern: str, matches: bool) -> None:
    """A star stays within a part of the path, two of them do not."""
    assert matches_path(path.split("/"), pattern.split("/")) is matches
