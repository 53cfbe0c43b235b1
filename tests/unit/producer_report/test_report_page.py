"""The page: whole in itself, written into the run's folder, true for runs of every kind and state."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddim_core.errors import RunNotFoundError
from producer.report import rows as report_rows
from producer.report import write_report
from tests.unit.storage.runs import SmallRun, small_plan, write_run


def written(folder: Path, run: SmallRun | None = None) -> str:
    """Return the page of a small run."""
    write_report(write_run(str(folder), run).url)
    return (folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects the names of elements and every address that the page would load or lead to."""

    def __init__(self, page: str) -> None:
        """Parse a page."""
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down one element."""
        self.names.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]


def test_the_page_stands_in_the_runs_folder_and_its_url_is_returned(tmp_path: Path) -> None:
    """Written again, it replaces itself."""
    url = write_run(str(tmp_path)).url
    assert write_report(url) == f"{url}/report.html"
    assert write_report(str(tmp_path)) == f"{url}/report.html"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    """It can be sent by mail: images are inside, and nothing is fetched."""
    tags = Tags(written(tmp_path))
    assert [address for address in tags.addresses if not address.startswith(("data:", "#"))] == []
    assert tags.names.count("img") == 4


@pytest.mark.parametrize(
    "prompt", ["<script>alert(1)</script>", "</style></script><img src=x>", "{{ 1 + 1 }}", 'a "quote"']
)
def test_a_prompt_adds_no_element(tmp_path: Path, prompt: str) -> None:
    """The page of a hostile prompt has the same elements as that of a harmless one."""
    harmless = Tags(written(tmp_path / "harmless", SmallRun(prompts=("a red square",))))
    hostile = Tags(written(tmp_path / "hostile", SmallRun(prompts=(prompt,))))
    assert hostile.names == harmless.names


def test_failures_are_grouped_by_reason_with_their_ids(tmp_path: Path) -> None:
    """Also where nothing was made at all."""
    run = SmallRun(failing=frozenset(SmallRun().prompts))
    page = written(tmp_path, run)
    assert "Complete, 4 failed" in page
    assert re.search(r"SampleError\s*<span class=\"count\">4</span>", page)
    assert "r0, r1, r2, r3" in page
    assert Tags(page).names.count("img") == 0


def test_images_past_the_limit_are_counted_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says how many."""
    monkeypatch.setattr(report_rows, "IMAGE_LIMIT", 3)
    page = written(tmp_path)
    assert "The first 3 images; 1 more are in the run" in page
    assert Tags(page).names.count("img") == 3


@pytest.mark.parametrize(
    ("committed", "cancelled", "badge"),
    [
        (None, False, "Complete"),
        (1, False, "Not finished: 1 of 2 chunks done"),
        (0, False, "Not finished: 0 of 2 chunks done"),
        (1, True, "Cancelled: 1 of 2 chunks done"),
    ],
)
def test_the_state_of_the_run_is_said(tmp_path: Path, committed: int | None, cancelled: bool, badge: str) -> None:
    """A page is written at any time, and must not look like that of a whole run before it is."""
    folder = write_run(str(tmp_path), SmallRun(committed=committed))
    if cancelled:
        folder.cancel()
    write_report(folder.url)
    page = (tmp_path / "report.html").read_text()
    assert re.search(rf'<p class="badge [a-z-]+">\s*{badge}\s*</p>', page)
    assert ("The run was not whole then" in page) == (committed is not None)


def test_the_page_says_what_was_made(tmp_path: Path) -> None:
    """Model, digest and the parameters of the images."""
    page = written(tmp_path)
    plan = small_plan()
    for text in (plan.run_id, plan.model.name, plan.model.digest, "64 x 64", "Ascend910B", "scaled_linear", "host-1/1"):
        assert text in page


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    """And nothing is written there."""
    with pytest.raises(RunNotFoundError, match=r"must name a folder with run\.json"):
        write_report(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
