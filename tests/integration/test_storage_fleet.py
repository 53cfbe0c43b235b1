"""A fleet whose runs are in a bucket: submitted, made by real workers, whole at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.storage.run_folder import RunFolder, file_entry
from producer.main import exit_code_of
from tests.integration.worker_host import Workers

PROMPTS = 30


@pytest.mark.parametrize("server", ["s3", "swift"])
@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_a_run_in_a_bucket_is_made_whole(
    server: str,
    container: str,
    request: pytest.FixtureRequest,
    start_workers: Callable[..., Workers],
    redis_url: str,
    tmp_path: Path,
) -> None:
    """Producer and workers share nothing but Redis and the service, which need not know conditional writes."""
    url = f"{request.getfixturevalue(f'{server}_url')}/runs/first"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"picture {number}\n" for number in range(PROMPTS)))
    start_workers("sim:2")
    options = ["--broker", redis_url, "--images-per-chunk", "8", "--format", container]
    assert exit_code_of(["submit", str(prompts), "--out", url, *options]) == 0
    assert exit_code_of(["watch", url, "--broker", redis_url]) == 0
    assert exit_code_of(["report", url]) == 0
    folder = RunFolder(url)
    manifest = folder.read_manifest()
    assert manifest is not None
    assert (manifest.images, manifest.failed, manifest.chunks) == (PROMPTS, 0, 4)
    for entry in manifest.files:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry
    assert [record.prompt for record in folder.records()] == [f"picture {number}" for number in range(PROMPTS)]
    assert folder.store.get("report.html").count(b"data:image/png") == PROMPTS


def test_a_second_run_at_the_same_url_is_refused(swift_url: str, redis_url: str, tmp_path: Path) -> None:
    """Also by a service that answers 501 to the condition."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a circle\n")
    submit = ["submit", str(prompts), "--out", f"{swift_url}/run", "--broker", redis_url]
    assert exit_code_of(submit) == 0
    before = RunFolder(f"{swift_url}/run").read_plan()
    assert exit_code_of(submit) == 1
    assert RunFolder(f"{swift_url}/run").read_plan() == before
