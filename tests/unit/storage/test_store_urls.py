"""Store URLs: one form for each place, and a clear refusal of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.errors import OutputError
from ddim_core.storage.urls import bucket_of, folder_of, normalise_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("/data/run", "file:///data/run"),
        ("/data/run/", "file:///data/run"),
        ("/", "file:///"),
        ("file:///", "file:///"),
        ("file:///data/run/", "file:///data/run"),
        ("FILE:///data/run", "file:///data/run"),
        ("file://localhost/data/run", "file:///data/run"),
        ("/data/a b", "file:///data/a%20b"),
        ("file:///data/a b", "file:///data/a%20b"),
        ("file:///data/a%20b", "file:///data/a%20b"),
        ("/data/100%", "file:///data/100%25"),
        ("/data/a%20b", "file:///data/a%2520b"),
        ("file:///data/x#1?y", "file:///data/x%231%3Fy"),
        ("/data/图像", "file:///data/%E5%9B%BE%E5%83%8F"),
        ("/data/a/../b", "file:///data/b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/run", "s3://bucket/run"),
        ("s3://bucket//a//b/", "s3://bucket/a/b"),
        ("s3://bucket/a b/100%25 ü", "s3://bucket/a b/100%25 ü"),
    ],
)
def test_a_place_has_one_url_however_it_is_written(given: str, normal: str) -> None:
    """Run URLs are compared and travel between hosts, so each place has one spelling, which is a fixed point."""
    assert normalise_url(given) == normal
    assert normalise_url(normal) == normal


def test_relative_paths_and_the_home_folder_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker elsewhere cannot resolve what is relative to the producer's shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folder_of(normalise_url("out/run")) == tmp_path / "out" / "run"
    assert folder_of(normalise_url(".")) == tmp_path
    assert folder_of(normalise_url("~/run")) == tmp_path / "home" / "run"


def test_symbolic_links_keep_their_name(tmp_path: Path) -> None:
    """Hosts may mount the same share under one name that leads to different places."""
    (tmp_path / "link").symlink_to(tmp_path)
    assert folder_of(normalise_url(f"{tmp_path}/link/run")) == tmp_path / "link" / "run"


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "must name a folder or a bucket"),
        ("  ", "must name a folder or a bucket"),
        ("/data/a\0b", "must name a folder or a bucket"),
        ("gs://bucket/run", r"must start with one of file://, s3:// or be a path, got 'gs://bucket/run'"),
        ("https://host/run", "must start with one of"),
        ("s3://", "must name a bucket"),
        ("s3:///run", "must name a bucket"),
        ("s3:/bucket/run", "must name a bucket"),
        ("s3://bucket:9000/run", "must be s3://bucket/folder"),
        ("s3://bucket/a/../b", "must be s3://bucket/folder"),
        ("s3://bucket/run?region=x", "must be s3://bucket/folder"),
        ("file://", "must be absolute"),
        ("file://data/run", "must be absolute"),
        ("file:/data/run", "must be absolute"),
        ("~nobody-of-that-name/run", "must name a folder"),
    ],
)
def test_what_names_no_place_is_refused_with_its_rule(url: str, rule: str) -> None:
    """A misspelt URL must not become a folder called ``s3:`` in the working directory."""
    with pytest.raises(OutputError, match=rule):
        normalise_url(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    """A run URL is stored in Redis, logs and manifests; a secret must not get there, not even by the error."""
    with pytest.raises(OutputError, match="must hold no credentials") as caught:
        normalise_url("s3://key:hunter2@bucket/run")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://bucket/run?secret=hunter2", "gs://bucket/run?access_token=hunter2"])
def test_what_another_tool_takes_in_a_query_is_not_repeated(url: str) -> None:
    """It may be a key."""
    with pytest.raises(OutputError, match=r"\?\*\*\*'$") as caught:
        normalise_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_bucket_url_splits_into_bucket_and_prefix() -> None:
    """The prefix of a bucket's root is empty."""
    assert bucket_of("s3://bucket/a/b") == ("bucket", "a/b")
    assert bucket_of("s3://bucket") == ("bucket", "")
