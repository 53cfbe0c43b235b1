"""Prompts that are longer than the text encoder takes, from the command line to the rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddim_core.contracts.record import Record
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from tests.integration.fleet_command import FleetCommand
from tests.unit.checkpoints.vocabularies import shapes

BEGINNING = (
    "a large red circle on a white background, highly detailed, best quality, sharp focus, soft light, award winning"
)
PROMPTS = {"star": f"{BEGINNING}, and a small blue star", "ring": f"{BEGINNING}, and a large green ring"}
SEEN = shapes().seen(PROMPTS["star"], 24)


@pytest.fixture
def two(fleet: FleetCommand) -> str:
    """Two captions that begin alike, and differ beyond what the text encoder takes."""
    lines = [{"custom_id": name, "prompt": prompt, "num_inference_steps": 2} for name, prompt in PROMPTS.items()]
    return str(fleet.write("two.jsonl", "\n".join(map(json.dumps, lines))))


def rows(folder: Path) -> dict[str, Record]:
    return {row.custom_id: row for row in RunFolder(str(folder)).records()}


def test_captions_that_would_be_one_image_are_refused(fleet: FleetCommand, two: str) -> None:
    """Unless somebody says what shall become of them; nothing is written."""
    for command in (("run",), ("submit", "--broker", "redis://127.0.0.1:1/0", "--plan"), ("run", "--plan")):
        done = fleet(*command, two, "--out", "run")
        assert done.returncode == 1 and "1 fault in the requests; nothing was written or queued" in done.stderr
        assert f"{two}:1: prompt must have at most 24 tokens with shapes, got " in done.stderr
        assert "--long-prompts cut" in done.stderr and "--long-prompts chunk" in done.stderr
    assert fleet.names() == ["two.jsonl"]


def test_a_run_that_cuts_says_what_it_cut(fleet: FleetCommand, two: str) -> None:
    """In its last line, its status, its rows and its captions."""
    done = fleet("run", two, "--out", "run", "--devices", "sim:1:1", "--long-prompts", "cut", "--format", "imagefolder")
    assert done.returncode == 0 and "2 images made, 2 of prompts that were cut" in done.stderr
    found = rows(fleet.folder / "run")
    assert {name: row.prompt for name, row in found.items()} == PROMPTS
    assert {row.prompt_used for row in found.values()} == {SEEN}
    assert "cut        2 images of a prompt that is cut" in fleet("status", "run").stdout
    assert fleet("verify", "run").returncode == 0
    page = (fleet.folder / "run/report.html").read_text()
    assert "2 of a prompt that was cut" in page and "Whole prompt" in page


def test_a_run_in_windows_names_them(fleet: FleetCommand, two: str) -> None:
    """The plan for the workers that compile them, the rows for whoever makes an image again."""
    options = ("--long-prompts", "chunk", "--max-windows", "3")
    assert "2 images of prompts of up to 3 windows" in fleet("run", two, "--plan", *options).stdout
    refused = fleet("run", two, "--plan", "--long-prompts", "chunk", "--max-windows", "2")
    assert refused.returncode == 1 and "--max-windows 3 allows all of them" in refused.stderr
    done = fleet("run", two, "--out", "run", "--devices", "sim:1:1", *options)
    assert done.returncode == 0 and "cut" not in done.stderr
    found = rows(fleet.folder / "run")
    assert {(row.long_prompts, row.windows, row.prompt_used) for row in found.values()} == {("chunk", 3, None)}
    assert found["star"].sha256 != found["ring"].sha256
    assert fleet("verify", "run").returncode == 0
    # The same command again is the same run, whatever is said of the windows that its lines name already.
    again = fleet("run", two, "--out", "run", "--devices", "sim:1:1", *options)
    assert again.returncode == 0 and "the run is there already, 2 of 2 images made" in again.stderr


def test_python_says_it_by_name_or_in_the_defaults(tmp_path: Path, redis_url: str) -> None:
    """An argument of its own goes before a default, and a request before both."""
    client = Client(redis_url)
    requests = [{"prompt": PROMPTS["star"]}, {"prompt": PROMPTS["ring"], "long_prompts": "cut"}]
    run = client.submit(requests, out=str(tmp_path / "run"), defaults={"long_prompts": "cut"}, long_prompts="chunk")
    assert run.plan.defaults["long_prompts"] == "chunk" and run.status().images_cut == 1
    assert [shape.windows for shape in run.plan.batch_shapes] == [1, 3]
    assert run.extend([{"prompt": PROMPTS["star"]}], long_prompts="cut") == 1
    assert run.status().images_cut == 2
