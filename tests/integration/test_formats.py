"""Image formats and containers through the command line, on a simulated device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.errors import InputError
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from tests.integration.fleet_command import FleetCommand, started
from tests.integration.worker_host import PATIENCE_S


@pytest.fixture
def fleet(fleet: FleetCommand) -> FleetCommand:
    """Give the command line, in a folder of its own with prompts."""
    lines = [{"prompt": "a red circle", "custom_id": "circle"}, {"prompt": "sim:fail", "custom_id": "../../up"}]
    (fleet.folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return fleet


def test_a_run_of_loose_lossy_files_from_start_to_end(fleet: FleetCommand, tmp_path: Path) -> None:
    """Made, reported, verified and made again, and resumed without a change."""
    options = ("--format", "files", "--image-format", "jpg", "--quality", "70", "--devices", "sim:1")
    options += ("--num-images-per-prompt", "2", "--num-inference-steps", "2")
    run = started(tmp_path, "run", "prompts.jsonl", "--out", "run", *options)
    out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 3, err  # one request fails, as its prompt asks
    assert f"images:   {tmp_path}/run/images\n" in out
    assert sorted(path.name for path in (tmp_path / "run" / "images").iterdir()) == ["circle_0.jpg", "circle_1.jpg"]
    with Image.open(tmp_path / "run" / "images" / "circle_1.jpg") as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
    rows = list(RunFolder("run").records())
    assert [(row.format, row.quality, row.status) for row in rows[1:3]] == [
        ("jpg", 70, "success"),
        ("jpg", 70, "failed"),
    ]
    assert {"pillow", "libjpeg-turbo", "ddim-fleet"} < set(json.loads(rows[0].versions))
    done = fleet("verify", "run", "--replay", "9", "--devices", "sim:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1:3] == ["000000000: same bytes", "000000001: same bytes"]
    assert done.stdout.splitlines()[3].startswith("made again: 2 images, 2 with the same bytes, ")
    again = started(tmp_path, "run", "prompts.jsonl", "--out", "run", *options)
    _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 3 and "the run is there already" in err
    other = started(tmp_path, "run", "prompts.jsonl", "--out", "run", *options, "--quality", "71")
    _, err = other.communicate(timeout=PATIENCE_S)
    assert other.returncode == 1 and "holds another one" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-format", "gif"), "'gif' is not one of 'png', 'jpg', 'webp'"),
        (("--quality", "80"), "quality must be left out with png, which loses nothing, got 80"),
        (("--image-format", "jpg", "--quality", "0"), "quality must be from 1 to 100, got 0"),
        (("--image-format", "jpg", "--lossless"), "the image format must be png or webp where nothing shall be lost"),
        (("--image-format", "webp", "--lossless", "--quality", "5"), "quality must be left out where nothing shall be"),
        (("--format", "zip"), "'zip' is not one of 'webdataset', 'imagefolder', 'files'"),
    ],
)
def test_options_that_contradict_each_other_stop_a_run_before_it_is_written(
    fleet: FleetCommand, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """In one line."""
    done = fleet("submit", "prompts.jsonl", "--out", "run", *options)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_client_takes_the_same_options(tmp_path: Path) -> None:
    """And refuses the same, before it asks the broker for anything."""
    client = Client("redis://127.0.0.1:1/0")
    with pytest.raises(InputError, match=r"must be png or webp where nothing shall be lost, got jpg"):
        client.submit([{"prompt": "a"}], out=str(tmp_path / "run"), image_format="jpg", lossless=True)
    with pytest.raises(InputError, match=r"^quality must be from 1 to 100, got 300$"):
        client.submit([{"prompt": "a"}], out=str(tmp_path / "run"), image_format="webp", quality=300)
    assert not (tmp_path / "run").exists()
