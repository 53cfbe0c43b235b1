"""A class-conditional checkpoint from a table of labels to shards: the whole way through the house, on MindSpore."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import started
from tests.integration.worker_host import shard_members
from tests.tiny_checkpoints import write_dit

pytestmark = [
    pytest.mark.mindspore,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mindspore") is None, reason="needs the extra 'worker'"),
]


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DiT with random weights."""
    from ddim_core.sampling import device

    device.start("CPU")
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_dit(tmp_path_factory.mktemp("dit"))


def test_a_run_of_a_class_conditional_checkpoint(dit: Path, tmp_path: Path) -> None:
    """Labels become classes, classes become captions, and rows, shards and samples agree on both."""
    labels = tmp_path / "labels.csv"
    labels.write_text("class_label,seed\n7,1\nTinca tinca,2\n")
    options = ("--out", "out", "--model", str(dit), "--num-inference-steps", "3", "--devices", "cpu:1")
    command = started(tmp_path, "run", str(labels), *options)
    out, err = command.communicate(timeout=300)
    assert command.returncode == 0, out + err
    folder = RunFolder(str(tmp_path / "out"))
    records = sorted(folder.records(), key=lambda record: record.key)
    assert [(r.class_label, r.prompt, r.negative_prompt) for r in records] == [
        (7, "class 7", ""),
        (0, "tench, Tinca tinca", ""),
    ]
    assert {record.guidance_scale for record in records} == {4.0}
    members = shard_members(folder)
    for record in records:
        assert members[f"{record.key}.txt"].decode() == record.prompt
        assert json.loads(members[f"{record.key}.json"])["class_label"] == record.class_label


def test_a_class_that_does_not_exist_is_told_before_anything_is_written(dit: Path, tmp_path: Path) -> None:
    """With the file, the line, the rule and the value."""
    (tmp_path / "labels.jsonl").write_text('{"class_label": 1}\n{"class_label": 1000}\n')
    command = started(tmp_path, "run", "labels.jsonl", "--out", "out", "--model", str(dit))
    _, err = command.communicate(timeout=60)
    assert command.returncode == 1, err
    assert f"labels.jsonl:2: class_label must be from 0 to 999 or one of its labels with {dit}, got 1000" in err
    assert not (tmp_path / "out").exists()
