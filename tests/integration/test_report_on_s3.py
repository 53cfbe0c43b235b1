"""A report of a run in a bucket: written there, or to a folder here."""

from __future__ import annotations

from pathlib import Path

from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import REPORT_FOLDER
from producer.report import write_report
from tests.unit.storage.runs import write_run


def test_a_report_is_written_into_the_bucket_of_its_run(s3_url: str) -> None:
    """Read and written through the store, with no folder in between; written again, it replaces itself."""
    folder = write_run(f"{s3_url}/runs/1")
    for _ in range(2):
        assert write_report(folder.url) == f"{s3_url}/runs/1/report.html"
    page = ObjectStore(s3_url).get("runs/1/report.html")
    assert page.count(b"data:image/png;base64,") == 4
    beside = sorted(path.rpartition("/")[2] for path, _ in folder.store.list(REPORT_FOLDER))
    assert beside == ["images-00000.js", "rows-00000.js"]


def test_a_report_of_a_bucket_can_be_written_to_a_folder(s3_url: str, tmp_path: Path) -> None:
    """To look at a run where it is not; nothing is written into the bucket."""
    folder = write_run(f"{s3_url}/runs/2")
    assert write_report(folder.url, out=str(tmp_path)) == tmp_path.as_uri() + "/report.html"
    assert (tmp_path / "report.html").read_bytes().count(b"data:image/png;base64,") == 4
    assert len(list((tmp_path / REPORT_FOLDER).rglob("*.js"))) == 2
    assert not folder.store.exists("report.html")
