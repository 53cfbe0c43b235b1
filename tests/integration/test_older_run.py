"""A run that an earlier version wrote is read, verified, reported, extended, mended and replayed by this one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.contracts.record import FAILED, SUCCESS, is_cut, spec_of
from ddim_core.errors import RequestFaults
from producer import Client
from producer.replay import compared, made_again
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand
from tests.integration.older_run import KEYS, copied
from tests.integration.worker_host import Workers
from tests.unit.checkpoints.vocabularies import shapes
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]
LONG = "a small blue star on a white background, highly detailed, best quality, sharp focus, soft light"


def test_an_older_run_is_read_as_one_whose_prompts_were_cut_in_one_window(tmp_path: Path) -> None:
    """Nobody counted then, and nobody says so now."""
    folder = copied(tmp_path / "run")
    rows = {row.key: row for row in folder.records()}
    assert {row.long_prompts for row in rows.values()} == {"cut"} and {row.windows for row in rows.values()} == {1}
    assert not any(is_cut(row) or row.prompt_tokens for row in rows.values())
    assert (spec_of(rows[KEYS["cut"]]).long_prompts, spec_of(rows[KEYS["cut"]]).windows) == ("cut", 1)
    assert [row.key for row in rows.values() if row.status == FAILED] == [KEYS["failed"]]
    plan = folder.read_plan()
    assert (plan.long_prompts, plan.tells_of_texts, plan.cut_images) == ("cut", False, 0)


def test_an_older_run_is_verified_and_reported(tmp_path: Path, fleet: FleetCommand) -> None:
    """By the commands that a person gives."""
    folder = copied(tmp_path / "run")
    done = fleet("verify", folder.url)
    assert (done.returncode, done.stderr) == (0, "") and "sound" in done.stdout
    assert fleet("report", folder.url).returncode == 0
    status = json.loads(fleet("status", folder.url, "--json").stdout)
    assert (status["state"], status["images_made"], status["images_failed"], status["images_cut"]) == (
        "finished",
        5,
        1,
        0,
    )


def test_an_older_run_is_extended_and_its_failed_image_made(
    tmp_path: Path, redis_server: RedisServer, start_workers: StartWorkers
) -> None:
    """It cuts long prompts as before, and the new rows say so; its shards keep the keys that they have."""
    folder = copied(tmp_path / "run")
    run = Client(redis_server.url).run(folder.url)
    old = folder.store.get("shards/00000.tar")
    assert run.retry_failed() == 1
    assert run.extend([{"prompt": LONG, "custom_id": "more", "num_inference_steps": 2}]) == 1
    start_workers("sim:1:1")
    assert run.wait(timeout_s=120).images_made == 7
    assert folder.store.get("shards/00000.tar") == old and list(RunCheck(folder).faults()) == []
    rows = {row.custom_id: row for row in folder.records()}
    assert (rows["failed"].status, rows["failed"].long_prompts, rows["failed"].prompt_tokens) == (SUCCESS, "cut", 10)
    assert rows["more"].prompt_used == shapes().seen(LONG, 24) and rows["between"].prompt_tokens is None
    assert run.status().images_cut == 1
    keys = set()
    for shard in ("00000", "00001", "00002"):
        with tarfile.open(tmp_path / f"run/shards/{shard}.tar") as tar:
            members = [tar.extractfile(name) for name in tar.getnames() if name.endswith(".json")]
            keys |= {tuple(json.load(member)) for member in members if member}
    assert len(keys) == 1


def test_an_extension_of_an_older_run_may_refuse_long_prompts(tmp_path: Path, redis_server: RedisServer) -> None:
    """Whoever extends it may say so; else what held for the run holds on."""
    run = Client(redis_server.url).run(copied(tmp_path / "run").url)
    with pytest.raises(RequestFaults, match="prompt must have at most 24 tokens with shapes"):
        run.extend([{"prompt": LONG}], long_prompts="refuse")


@pytest.mark.mindspore
@pytest.mark.slow
def test_an_older_run_is_replayed(tmp_path: Path) -> None:
    """The same tokens, cut in the same place, are the same picture, up to what another build of the kernels rounds."""
    pytest.importorskip("mindspore")
    folder = copied(tmp_path / "run")
    rows = [row for row in folder.records() if row.status == SUCCESS]
    with made_again(rows, "cpu:1", run=folder) as again:
        results = [compared(folder, row, again[row.key]) for row in rows]
    assert all(each.same_bytes or (each.levels is not None and each.levels <= 2) for each in results), results
