"""`ddim-fleet run` from start to end on simulated devices, and what is left when it is stopped in between."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.checkpoints import digest, resolve
from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import started
from workers.samplers.checkpoints import Checkpoints

# About ten seconds: long enough to be stopped in between, and a second from one chunk to the next.
SLOW = ("run", "prompts.txt", "--out", "out", "--devices", "sim:1:100", "--num-inference-steps", "10")
SLOW += ("--num-images-per-prompt", "8", "--images-per-chunk", "2")
PROMPTS = "a red circle\na blue star\na green square\na pink ring\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give an empty folder with prompts, in which temporary files are ours alone to find."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    return tmp_path


@pytest.fixture
def own_model(home: Path) -> Path:
    """Give a checkpoint folder that no package knows, as a person keeps it."""
    return shutil.copytree(resolve("shapes"), home / "models" / "my-shapes")


@pytest.fixture(autouse=True)
def own_temporary_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run's logs and Redis live where the test can look."""
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))


def finish(command: subprocess.Popen[str], timeout_s: float = 90) -> tuple[int, str, str]:
    out, err = command.communicate(timeout=timeout_s)
    return command.returncode, out, err


def wait_until(happened: Callable[[], object], command: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline, "it must happen within 60 s"
        time.sleep(0.1)


def wait_until_making(command: subprocess.Popen[str], folder: Path) -> None:
    wait_until(lambda: list((folder / "parts").glob("*.parquet")), command)


def programs_of(home: Path) -> dict[int, str]:
    """Return the processes that run in the test's folder: all that a run starts do."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(home):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def wait_until_gone(home: Path, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while left := programs_of(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_orphans(home: Path) -> Iterator[None]:
    """Whatever a test does, nothing of it runs on."""
    yield
    left = programs_of(home)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, left


def test_run_makes_images_manifest_and_report(home: Path) -> None:
    """One command, and the paths it prints hold what it says."""
    code, out, err = finish(started(home, "run", "prompts.txt", "--out", "out", "--devices", "sim:2"))
    assert code == 0, err
    paths = dict(re.findall(r"^(\w+): +(/\S+)$", out, re.M))
    assert set(paths) == {"images", "manifest", "report"}
    assert all(Path(path).exists() for path in paths.values())
    assert list(Path(paths["images"]).glob("*.tar"))
    manifest = RunFolder(str(home / "out")).read_manifest()
    assert manifest is not None and (manifest.images, manifest.failed) == (4, 0)
    assert re.search(r"^finished: 4 images made, 0 failed", err, re.M)
    assert not list((home / "tmp").iterdir())


@pytest.mark.mindspore
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_makes_real_images_with_a_model_of_ones_own(home: Path, own_model: Path) -> None:
    """On the CPU: no simulated device shows that the parts fit together."""
    if find_spec("mindspore") is None:
        pytest.skip("needs the extra 'worker'")
    arguments = ("run", "prompts.txt", "--out", "out", "--devices", "cpu:1", "--model", "models/my-shapes")
    arguments += ("--format", "imagefolder", "--num-inference-steps", "3")
    code, out, err = finish(started(home, *arguments), timeout_s=800)
    assert code == 0, err
    assert "starting: compiling on 1 device" in err
    records = list(RunFolder(str(home / "out")).records())
    assert [(record.device_kind, record.width, record.height) for record in records] == [("cpu", 64, 64)] * 4
    assert {(record.model, record.status) for record in records} == {(str(own_model), "success")}
    for record in records:
        assert record.path is not None
        with Image.open(home / "out" / record.path) as image:
            assert image.size == (64, 64)
            assert len(image.getcolors(64 * 64) or []) > 100
    assert len({record.sha256 for record in records}) == 4
    assert "report:" in out


def models_given(home: Path) -> tuple[str, ...]:
    """Return all ``--models`` of the workers that run now."""
    [models] = {tuple(found) for line in programs_of(home).values() if (found := re.findall(r"--models (\S+)", line))}
    return models


def test_a_model_of_ones_own_is_found_by_the_workers(home: Path, own_model: Path) -> None:
    """When the run goes on, too; simulated devices load nothing, so the workers' own search is asked."""
    arguments = ("--model", "models/my-shapes")
    slow = started(home, *SLOW, *arguments)
    for going_on in ((*SLOW, *arguments), ("run", "--resume", "out", "--devices", "sim:1:100"), None):
        wait_until_making(slow, home / "out")
        plan = RunFolder(str(home / "out")).read_plan()
        assert plan.model.name == str(own_model)
        assert digest(Checkpoints(models_given(home)).find(plan.model)) == digest(own_model)
        slow.send_signal(signal.SIGINT)
        assert finish(slow)[0] == 130
        if going_on:
            slow = started(home, *going_on)
            wait_until(lambda: "--models" in " ".join(programs_of(home).values()), slow)
    (own_model / "unet" / "config.json").write_text((own_model / "unet" / "config.json").read_text() + "\n")
    code, _, err = finish(started(home, "run", "--resume", "out", "--devices", "sim:1"))
    assert code == 1
    assert re.search(r"error: checkpoint \S+/my-shapes must have digest sha256:\w+, got sha256:\w+; put it back$", err)


def test_a_run_goes_to_a_bucket_as_well(home: Path, s3_url: str) -> None:
    """What is printed then are the objects' URLs, and a command that brings the images here."""
    code, out, err = finish(started(home, "run", "prompts.txt", "--out", f"{s3_url}/run", "--devices", "sim:1"))
    assert code == 0, err
    assert re.search(rf"^manifest: {s3_url}/run/manifest\.json$", out, re.M)
    manifest = RunFolder(f"{s3_url}/run").read_manifest()
    assert manifest is not None and manifest.images == 4
    see = re.search(r"^to see the images as files: ddim-fleet (extract \S+ --out \S+)$", err, re.M)
    assert see is not None
    code, out, err = finish(started(home, *see[1].split()))
    assert (code, out, err) == (0, f"4 images in {home / 'pictures'}\n", "")
    assert len(list((home / "pictures").glob("*.png"))) == 4


def test_a_request_that_fails_is_told_and_the_rest_is_made(home: Path) -> None:
    """The exit code says it to a script, the records say which."""
    (home / "some-fail.txt").write_text("a red circle\nsim:fail\na blue star\n")
    code, out, err = finish(started(home, "run", "some-fail.txt", "--out", "out", "--devices", "sim:1"))
    assert code == 3
    assert re.search(r"^finished: 2 images made, 1 failed", err, re.M)
    assert "report:" in out
    failed = [record for record in RunFolder(str(home / "out")).records() if record.status == "failed"]
    assert [(record.prompt, record.custom_id) for record in failed] == [("sim:fail", "000000001")]


def test_the_same_command_again_makes_nothing_new(home: Path) -> None:
    """A finished run is found and told."""
    arguments = ("run", "prompts.txt", "--out", "out", "--devices", "sim:1", "--format", "imagefolder")
    assert finish(started(home, *arguments))[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (home / "out" / "images").glob("*.png")}
    assert len(before) == 4
    code, _, err = finish(started(home, *arguments))
    assert code == 0
    assert "the run is there already, 4 of 4 images made" in err
    assert {path: path.stat().st_mtime_ns for path in (home / "out" / "images").glob("*.png")} == before


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_what_is_made_and_goes_on(home: Path, number: signal.Signals, expected: int) -> None:
    """The signal reaches us alone, we stop the others, and say how to go on; going on makes only the rest."""
    slow = started(home, *SLOW)
    wait_until_making(slow, home / "out")
    slow.send_signal(number)
    code, out, err = finish(slow)
    assert (code, out) == (expected, "")
    assert re.search(rf"^stopped; .* To go on: ddim-fleet run --resume file://{home}/out$", err, re.M)
    assert "Traceback" not in err
    wait_until_gone(home)
    assert not list((home / "tmp").iterdir())
    before = {path: path.stat().st_mtime_ns for path in (home / "out" / "shards").iterdir()}
    code, out, err = finish(started(home, "run", "--resume", str(home / "out"), "--devices", "sim:2"))
    assert code == 0, err
    after = {path: path.stat().st_mtime_ns for path in (home / "out" / "shards").iterdir()}
    assert 0 < len(before) < len(after) and before.items() <= after.items()


def test_a_killed_run_leaves_no_process(home: Path) -> None:
    """Nobody is there to stop Redis and the workers, so they end by themselves."""
    slow = started(home, *SLOW)
    wait_until_making(slow, home / "out")
    assert len(programs_of(home)) >= 4
    slow.kill()
    slow.communicate()
    wait_until_gone(home)


@pytest.mark.parametrize(
    ("devices", "expected", "message"),
    [
        ("sem:2", 1, r"ddim-fleet: error: --devices must be one of .*, got 'sem:2'"),
        ("npu:99", 2, r"ddim-fleet: error: the workers' supervisor ended with code 2: .* \(log: (/\S+/workers\.log)\)"),
    ],
)
def test_devices_that_are_not_there_stop_a_run_before_it_is_written(
    home: Path, devices: str, expected: int, message: str
) -> None:
    """A log that a message names is kept."""
    code, _, err = finish(started(home, "run", "prompts.txt", "--out", "out", "--devices", devices))
    assert code == expected
    *advice, last = err.strip().splitlines()
    assert [line.partition(" recommends ")[0] for line in advice] == ["shapes"]
    match = re.fullmatch(message, last)
    assert match is not None, err
    assert all(Path(log).exists() for log in match.groups())
    assert not (home / "out").exists()


@pytest.mark.parametrize(("victim", "name"), [("redis-server", "redis-server"), ("-m workers ", "the workers' .*")])
def test_a_part_of_the_fleet_that_dies_ends_the_run(home: Path, victim: str, name: str) -> None:
    """Waiting for it would never end; the run can go on later."""
    slow = started(home, *SLOW)
    wait_until_making(slow, home / "out")
    for pid, line in programs_of(home).items():
        if victim in line:
            os.kill(pid, signal.SIGKILL)
    code, _, err = finish(slow)
    assert code == 2
    assert re.search(rf"^ddim-fleet: error: {name} ended with code -9: .* \(log: /\S+\)$", err, re.M)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], r"Missing argument 'PROMPTS\.\.\.'\. \(see 'ddim-fleet run --help'\)"),
        (["run", "p.txt", "--resume", "x"], r"--resume must stand alone or with --devices, got PROMPTS\. \(see .*"),
        (
            [
                "run",
                "--resume",
                "x",
                "--seed",
                "0",
                "--model=shapes",
                "--scheduler",
                "eta=1",
                "--format",
                "imagefolder",
            ],
            r"--resume must stand alone or with --devices, got --model, --seed, --format, --scheduler\. .*",
        ),
        (["run", "--resume", "nowhere"], r"a run's URL must name a folder with run\.json, .*"),
        (["run", "p.txt"], r"Missing option '--out'\. .*"),
    ],
)
def test_bad_usage_of_run_starts_nothing(home: Path, arguments: list[str], message: str) -> None:
    """It is found before Redis and workers start."""
    code, _, err = finish(started(home, *arguments))
    assert code == 1
    assert re.fullmatch(f"ddim-fleet: error: {message}", err.strip())
    assert sorted(path.name for path in home.iterdir()) == ["prompts.txt", "tmp"]


def test_a_run_that_is_cancelled_ends_and_says_how_to_go_on(home: Path) -> None:
    """From another terminal; the same command again makes the rest."""
    command = started(home, *SLOW)
    wait_until_making(command, home / "out")
    assert finish(started(home, "cancel", "out"))[0] == 0
    code, out, err = finish(command)
    assert code == 2
    assert re.search(r"^cancelled: [1-9]\d* images made, 0 failed", err, re.M)
    assert err.endswith(f"to go on with it: ddim-fleet run --resume {RunFolder(str(home / 'out')).url}\n")
    assert "manifest:" not in out and not (home / "out" / "manifest.json").exists()
    code, out, err = finish(started(home, *SLOW))
    assert code == 0, err
    assert re.search(r"^finished: 32 images made, 0 failed", err, re.M)
