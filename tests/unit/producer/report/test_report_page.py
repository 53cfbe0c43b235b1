"""The page: whole in itself, written into the run's folder, true for runs of every kind and state."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddim_core.contracts.changes import Extension, RetryOrder
from ddim_core.errors import OutputError, RunNotFoundError
from ddim_core.storage.run_folder import PLAN, REPORT_FOLDER, RunFolder, encode_part, part_path, stats_path
from producer.report import beside, contents, render, write_report
from producer.report.contents import Contents
from producer.report.facts import read_facts
from producer.verify import RunCheck
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
        self.attributes: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down one element."""
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action") and value]


def test_the_page_stands_in_the_runs_folder_and_its_url_is_returned(tmp_path: Path) -> None:
    """Written again, it replaces itself."""
    url = write_run(str(tmp_path)).url
    assert write_report(url) == f"{url}/report.html"
    assert write_report(str(tmp_path)) == f"{url}/report.html"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_page_alone_shows_its_first_images(tmp_path: Path) -> None:
    """It can be sent by mail: the first page's images are inside, and the page loads nothing to show them."""
    tags = Tags(written(tmp_path))
    assert [address for address in tags.addresses if not address.startswith(("data:", "#"))] == []
    assert tags.names.count("img") == 4


def test_images_that_are_files_are_linked_from_their_thumbnails(tmp_path: Path) -> None:
    """From the run's own folder only; a report elsewhere would lead nowhere."""
    run = SmallRun(container="imagefolder")
    assert 'href="images/000000000.png"' in written(tmp_path / "run", run)
    write_report(str(tmp_path / "run"), out=str(tmp_path / "elsewhere"))
    assert 'href="images/' not in (tmp_path / "elsewhere" / "report.html").read_text()


HOSTILE = (
    "<script>alert(1)</script>",
    "</style></script><img src=x>",
    "</template></noscript><!--",
    "{{ 1 + 1 }}",
    'a "quote"',
    "line\u2028paragraph\u2029end",
    "\u202eright to left\u2066",
    "x" * 10_000,
)


def test_prompts_add_no_element(tmp_path: Path) -> None:
    """The page of hostile prompts has the same elements as that of harmless ones; its data are lines of ASCII."""
    harmless = Tags(written(tmp_path / "harmless", SmallRun(prompts=["a red square"] * len(HOSTILE))))
    hostile = Tags(written(tmp_path / "hostile", SmallRun(prompts=HOSTILE)))
    assert hostile.names == harmless.names
    for script in (tmp_path / "hostile" / REPORT_FOLDER).rglob("*.js"):
        text = script.read_bytes().decode("ascii")
        assert text.count("\n") == 1
        assert not re.search(r"[<>&]", text)


def with_hostile_fields(folder: RunFolder, text: str) -> RunFolder:
    """Have every text of a run's rows and plan be ``text``: ids, metadata, errors, names of models and workers."""
    for chunk in sorted(folder.committed_chunks()):
        rows = [
            replace(
                row,
                custom_id=text,
                error_class=None if row.error_class is None else text,
                error_message=None if row.error_message is None else text,
                negative_prompt=text,
                model=text,
                worker=text,
                device=text,
                device_kind=text,
                dtype=text,
                metadata={text: text},
                versions=json.dumps({text: text}),
            )
            for row in folder.read_records(chunk)
        ]
        folder.store.put(part_path(chunk), encode_part(rows))
        stats = folder.read_stats(chunk).model_copy(update={"worker": text, "device": text})
        folder.store.put(stats_path(chunk), stats.model_dump_json().encode())
    plan = folder.read_plan()
    model = plan.model.model_copy(update={"name": text, "digest": text})
    hostile = plan.model_copy(update={"model": model, "versions": {text: text}, "defaults": {text: text}})
    folder.store.put(PLAN, hostile.model_dump_json().encode())
    return folder


@pytest.mark.parametrize("text", ["".join(HOSTILE[:5]), "javascript:alert(1)", '"><svg onload="alert(1)'])
def test_no_text_of_a_run_adds_an_element_or_an_address(tmp_path: Path, text: str) -> None:
    """Ids, metadata, error messages, names of models, of workers and of versions come from strangers, too."""

    def page(name: str, words: str) -> Tags:
        run = SmallRun(failing=frozenset({SmallRun().prompts[0]}), container="imagefolder")
        write_report(with_hostile_fields(write_run(str(tmp_path / name), run), words).url)
        return Tags((tmp_path / name / "report.html").read_text(encoding="utf-8"))

    harmless, hostile = page("harmless", "words"), page("hostile", text)
    assert hostile.names == harmless.names
    assert hostile.attributes == harmless.attributes
    links = [address for address in hostile.addresses if not address.startswith(("data:", "#"))]
    assert links and all(re.fullmatch(r"images/\d{9}\.png", link) for link in links)
    for script in (tmp_path / "hostile" / REPORT_FOLDER).rglob("*.js"):
        assert not re.search(r"[<>&]", script.read_bytes().decode("ascii"))


def test_failures_are_grouped_by_reason_with_their_ids(tmp_path: Path) -> None:
    """Also where nothing was made at all."""
    run = SmallRun(failing=frozenset(SmallRun().prompts))
    page = written(tmp_path, run)
    assert "Complete, 4 failed" in page
    assert re.search(r"not_finite\s*<span class=\"count\">4</span>", page)
    assert "<bdi>r0</bdi>, <bdi>r1</bdi>, <bdi>r2</bdi>, <bdi>r3</bdi></p>" in page
    assert Tags(page).names.count("img") == 0


def content(script: Path) -> object:
    """Return what a file beside the page hands to it."""
    match = re.fullmatch(r'report\.take\("([a-z]+-\d{5})", (.*)\);\n', script.read_text())
    assert match is not None
    assert match[1] == script.stem
    return json.loads(match[2])


def test_all_rows_and_thumbnails_lie_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In files of fixed lengths, in the order of keys, failed rows among them."""
    for module in (beside, contents, render):
        monkeypatch.setattr(module, "PAGE_CARDS", 2)
    monkeypatch.setattr(beside, "ROWS_PER_FILE", 4)
    prompts = [f"a red square {number}" for number in range(5)]
    page = written(tmp_path, SmallRun(prompts=prompts, failing=frozenset({prompts[1]})))
    assert Tags(page).names.count("img") == 1
    assert "The first 2 of 5." in page
    (folder,) = (tmp_path / REPORT_FOLDER).iterdir()
    names = ["images-00000.js", "images-00001.js", "images-00002.js", "rows-00000.js", "rows-00001.js"]
    assert sorted(path.name for path in folder.iterdir()) == names
    rows = [content(folder / name) for name in names[3:]]
    assert [row for file in rows for row in file["caption"]] == prompts
    assert rows[0]["status"] == ["made", "failed", "made", "made"]
    images = [image for name in names[:3] for image in content(folder / name)]
    assert [image and image[1:] for image in images] == [[192, 192, True], None, *[[192, 192, True]] * 3]


def test_a_report_written_again_is_the_same(tmp_path: Path) -> None:
    """Byte for byte, page and files: it depends on the run alone."""
    write_run(str(tmp_path / "run"))
    copies = []
    for name in ("first", "second"):
        write_report(str(tmp_path / "run"), out=str(tmp_path / name))
        root = tmp_path / name
        copies.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert copies[0] == copies[1]
    assert len(copies[0]) == 3


def test_a_new_edition_takes_the_place_of_the_old_one_and_of_nothing_else(tmp_path: Path) -> None:
    """The files of an earlier report go once no page needs them; what a person put there stays."""
    write_run(str(tmp_path), SmallRun(committed=1))
    write_report(str(tmp_path))
    (old,) = (tmp_path / REPORT_FOLDER).glob("*/rows-00000.js")
    mine = tmp_path / REPORT_FOLDER / "notes" / "mine.js"
    mine.parent.mkdir()
    mine.write_text("// keep")
    finish = write_run(str(tmp_path / "whole"))
    for path in ("parts/00001.parquet", "parts/00001_stats.json", "shards/00001.tar"):
        (tmp_path / path).write_bytes(finish.store.get(path))
    write_report(str(tmp_path))
    (new,) = (tmp_path / REPORT_FOLDER).glob("*/rows-00000.js")
    assert new != old
    assert mine.exists()


def test_a_report_goes_where_it_is_told_and_leaves_the_run_alone(tmp_path: Path) -> None:
    """For a run in a bucket that one may only read, for instance."""
    url = write_run(str(tmp_path / "run")).url
    before = sorted(tmp_path.joinpath("run").rglob("*"))
    assert write_report(url, out=str(tmp_path / "out")) == (tmp_path / "out").as_uri() + "/report.html"
    assert (tmp_path / "out" / "report.html").exists()
    assert sorted(tmp_path.joinpath("run").rglob("*")) == before


def test_a_report_is_no_fault_of_a_run(tmp_path: Path) -> None:
    """The page and what lies beside it are no part of the dataset: ``verify`` passes over both."""
    folder = write_run(str(tmp_path))
    write_report(folder.url)
    assert list(RunCheck(folder).faults()) == []


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Before anything is read or written."""
    url = write_run(str(tmp_path / "run")).url
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a store must be a folder, but .*file is a file"):
        write_report(url, out=str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("committed", "mark", "badge"),
    [
        (None, None, "Complete"),
        (1, None, "Not finished: 1 of 2 chunks done"),
        (0, None, "Not finished: 0 of 2 chunks done"),
        (1, "cancelled", "Cancelled: 1 of 2 chunks done"),
        (1, "paused", "Paused: 1 of 2 chunks done"),
    ],
)
def test_the_state_of_the_run_is_said(tmp_path: Path, committed: int | None, mark: str | None, badge: str) -> None:
    """A page is written at any time, and must not look like that of a whole run before it is."""
    folder = write_run(str(tmp_path), SmallRun(committed=committed))
    if mark:
        folder.store.put(mark, b"")
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


def test_the_page_says_how_the_run_was_planned(tmp_path: Path) -> None:
    """With what it was given after that: a run of a thousand images may have been planned as one of ten."""
    facts = read_facts(write_run(str(tmp_path)))
    extension = Extension(
        created_at="2026-11-24T09:30:00Z",
        first_chunk=2,
        request_count=1,
        image_count=1200,
        chunk_count=600,
        requests_digest="sha256:" + "ef" * 32,
    )
    order = RetryOrder(created_at="2026-11-25T00:00:00Z", name="ab" * 8, images=3, chunks=1)
    plan = facts.plan.model_copy(
        update={
            "image_format": "webp",
            "quality": 90,
            "priority": "high",
            "changes": (extension, order),
            "defaults": {"negative_prompt": "<b>blur</b>", "scheduler": {"timestep_spacing": "trailing"}},
        }
    )
    page = render.render(replace(facts, plan=plan), Contents("report/x"), links=False)
    shown = [text.strip() for text in re.findall(r"<dt>(?:.*?)</dt><dd[^>]*>(.*?)</dd>", page)]
    for text in (
        "webdataset, webp, quality 90",
        "high",
        "2026-11-24 09:30 UTC: 1\u202f200 images",
        "2026-11-25 00:00 UTC: 3 images",
        "&lt;b&gt;blur&lt;/b&gt;",
    ):
        assert text in shown
    assert any("trailing" in text for text in shown)


def test_a_folder_without_a_run_has_no_report(tmp_path: Path) -> None:
    """And nothing is written there."""
    with pytest.raises(RunNotFoundError, match=r"must name a folder with run\.json"):
        write_report(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
