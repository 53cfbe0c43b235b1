"""A report in a bucket."""

from __future__ import annotations

from ddim_core.storage.objects import ObjectStore
from producer.report import write_report
from tests.unit.storage.runs import write_run


def test_a_report_is_written_into_the_bucket_of_its_run(s3_url: str) -> None:
    """Read and written through the store, with no folder in between."""
    folder = write_run(f"{s3_url}/runs/1")
    assert write_report(folder.url) == f"{s3_url}/runs/1/report.html"
    page = ObjectStore(s3_url).get("runs/1/report.html")
    assert page.count(b"data:image/png;base64,") == 4
