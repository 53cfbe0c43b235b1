"""The list of checkpoints as a person and a program read it, and what a conversion refuses before it starts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddim_core.checkpoints import digest, resolve
from ddim_core.checkpoints.tensors import write_tensors
from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import InputError
from producer.checkpoints import conversion
from producer.checkpoints.listing import checkpoints_of_fleet
from producer.main import exit_code_of
from producer.requests.model import read_model

NOTE = CheckpointNote(name="/models/a", folder="/models/a", pipeline="DDPMPipeline", takes="nothing", size_bytes=7)


def report(host: str, pid: int, *notes: CheckpointNote) -> WorkerReport:
    return WorkerReport(worker_id=f"{host}/{pid}", host=host, pid=pid, device="cpu:0", state="ready", checkpoints=notes)


def test_the_list_of_this_host_is_read_by_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same facts both ways; the digest is that which a plan has."""
    shutil.copytree(resolve("shapes"), tmp_path / "mine")
    assert exit_code_of(["models", "--models", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if line[:1].strip()] == ["shapes", str(tmp_path / "mine")]
    assert "  takes        prompt, up to 24 tokens; interpolate, trace, invert" in text
    assert "  sizes        64x64 unless given, multiples of 8" in text
    assert "  recommends   num_inference_steps 20, guidance_scale 2, guidance_rescale 0.7" in text
    assert exit_code_of(["models", "--models", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["checkpoints"]
    assert [one["digest"] for one in listed] == [digest(resolve("shapes"))] * 2
    assert exit_code_of(["models", "--models", str(tmp_path / "nowhere")]) == 1
    assert "--models must be a folder, got" in capsys.readouterr().err


def test_a_checkpoint_of_several_hosts_is_listed_once() -> None:
    """One worker of a host may have read the weights where another has not; other weights are another checkpoint."""
    read, other = NOTE.model_copy(update={"digest": "d"}), NOTE.model_copy(update={"digest": "e"})
    reports = [report("n1", 1, NOTE), report("n1", 2, read), report("n2", 1, read), report("n3", 1, other)]
    assert [(one.note.digest, one.hosts) for one in checkpoints_of_fleet(reports)] == [
        ("d", ("n1", "n2")),
        ("e", ("n3",)),
    ]
    unread = checkpoints_of_fleet([report("n1", 1, NOTE), report("n2", 1, NOTE)])
    assert [one.hosts for one in unread] == [("n1", "n2")]
    assert "  digest       not read yet" in str(unread[0])
    broken = NOTE.model_copy(update={"fault": "it is pickled"})
    assert str(checkpoints_of_fleet([report("n1", 1, broken)])[0]) == (
        "/models/a\n  hosts        n1\n  fault        it is pickled"
    )


def test_an_older_worker_reports_no_checkpoints() -> None:
    """And what a newer one reports beside them is passed over."""
    text = report("n1", 1).model_dump(exclude={"checkpoints"}) | {"later": 1}
    assert WorkerReport.model_validate(text).checkpoints == ()
    assert CheckpointNote.model_validate({**NOTE.model_dump(), "later": 1}) == NOTE


def test_a_plan_names_a_variant_only_where_there_is_one(tmp_path: Path) -> None:
    """Earlier versions read plans of plain weights, and know no such field."""
    mine = Path(shutil.copytree(resolve("shapes"), tmp_path / "mine"))
    assert "variant" not in read_model(str(mine)).ref().model_dump()
    for path in mine.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    ref = read_model(str(mine)).ref()
    assert json.loads(ref.model_dump_json())["variant"] == "fp16"
    assert ModelRef.model_validate_json(ref.model_dump_json()) == ref


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """Give a file that could be a checkpoint's."""
    write_tensors(tmp_path / "v1.safetensors", {"a": np.zeros(1, np.float32)})
    return tmp_path / "v1.safetensors"


@pytest.mark.parametrize(
    ("name", "like", "out", "message"),
    [
        (
            "v1.ckpt",
            "shapes",
            "mine",
            r"must be a single \.safetensors, got .*v1\.ckpt; pickled weights are never",
        ),
        ("gone.safetensors", "shapes", "mine", r"must be a single \.safetensors, got .*gone\.safetensors"),
        ("text.safetensors", "shapes", "mine", r"must be safetensors, got a file that begins otherwise"),
        (
            "v1.safetensors",
            "org/name",
            "mine",
            r"got org/name, which looks like a hub's id; nothing is downloaded",
        ),
        (
            "v1.safetensors",
            "shapes",
            ".",
            r"--out must be a new folder, got .*, which is there already; choose",
        ),
        ("v1.safetensors", "shapes", "v1.safetensors/mine", r"--out must be a folder that can be made, got .*: "),
    ],
)
def test_a_conversion_that_cannot_be_is_refused_before_it_starts(
    single: Path, name: str, like: str, out: str, message: str
) -> None:
    """MindSpore takes seconds to start, and the weights minutes to read."""
    (single.parent / "text.safetensors").write_text("<html>")
    (single.parent / "v1.ckpt").write_bytes(b"")
    before = sorted(single.parent.iterdir())
    with pytest.raises(InputError, match=message):
        conversion.convert(single.parent / name, like, single.parent / out)
    assert sorted(single.parent.iterdir()) == before


def test_what_a_killed_conversion_left_goes_with_the_next(tmp_path: Path) -> None:
    """Gigabytes under a hidden name; that of one that still runs stays, and so does everything else."""
    left, running = (tmp_path / f".mine.converting-{pid}" for pid in (2**22 + 1, os.getppid()))
    for folder in (left, running, tmp_path / ".other.converting-1"):
        folder.mkdir()
    with conversion._beside(tmp_path / "mine") as folder:
        assert not left.exists() and running.exists() and folder.parent == tmp_path
        (folder / "weights").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [running.name, ".other.converting-1"]
