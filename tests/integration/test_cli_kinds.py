"""Interpolations, traces and inversions from the line to the manifest, on simulated devices."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from ddim_core.contracts.record import Record
from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import FleetCommand

REQUESTS = (
    {"custom_id": "morph", "prompt": "a", "interpolate": {"seeds": [3, 8], "frames": 3}},
    {"custom_id": "way", "prompt": "a", "seed": 5, "eta": 1.0, "trace": {"steps": [2, 6]}},
    {"custom_id": "back", "prompt": "a", "invert": {"image": "picture.png"}},
    {"custom_id": "plain", "prompt": "a"},
)


@pytest.fixture
def fleet(fleet: FleetCommand) -> FleetCommand:
    """Give the command line, in a folder of its own with a picture."""
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save("picture.png")
    return fleet


def lines(*requests: object) -> str:
    return "".join(json.dumps(request) + "\n" for request in requests)


@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_all_kinds_go_from_the_line_to_the_manifest(fleet: FleetCommand, container: str) -> None:
    """Rows say what each image is, the run needs no file outside it, images made again are the same, damage shows."""
    fleet.write("in.jsonl", lines(*REQUESTS))
    options = ("--devices", "sim:1:1", "--num-inference-steps", "6", "--images-per-chunk", "3", "--format", container)
    done = fleet("run", "in.jsonl", "--out", "out", *options)
    assert done.returncode == 0, done.stderr
    (fleet.folder / "picture.png").unlink()
    folder = RunFolder("out")
    rows = list(folder.records())
    assert [(row.kind, row.frame, row.frames) for row in rows] == [
        *(("interpolate", frame, 3) for frame in range(3)),
        *(("trace", frame, 2) for frame in range(2)),
        ("invert", 0, 1),
        ("image", 0, 1),
    ]
    assert [(row.seed, row.to_seed, row.fraction) for row in rows[:3]] == [(3, 8, 0.0), (3, 8, 0.5), (3, 8, 1.0)]
    assert [(row.seed, row.steps_taken) for row in rows[3:5]] == [(5, 2), (5, 6)]
    check_inversion(folder, rows[5])
    sound = fleet("verify", "out", "--replay", "7", "--devices", "sim:1")
    assert sound.returncode == 0 and "7 with the same bytes" in sound.stdout, sound.stdout
    check_tampering(fleet, rows[5].key)


def check_inversion(folder: RunFolder, row: Record) -> None:
    assert row.source is not None and row.latents is not None and row.guidance_scale == 1.0
    assert hashlib.sha256(folder.store.get(row.source)).hexdigest() in row.source
    latents = folder.store.get(row.latents)
    assert (len(latents), hashlib.sha256(latents).hexdigest()) == (row.latents_size_bytes, row.latents_sha256)
    assert np.load(io.BytesIO(latents)).shape == (4, 8, 8)
    assert row.reconstruction_error is not None and 0 < row.reconstruction_error < 1
    assert row.latents in {entry.path for entry in (folder.read_manifest() or pytest.fail("no manifest")).files}


def check_tampering(fleet: FleetCommand, key: str) -> None:
    """Latents are part of the dataset as images are: ``verify`` names those that changed, are gone or too many."""
    name = f"latents/{key[:-4]}/{key}.npy"
    path = fleet.folder / "out" / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + b"!")
    assert f"{name}: must have sha256" in fleet("verify", "out").stdout
    path.unlink()
    assert f"{name}: must be in the store" in fleet("verify", "out").stdout
    path.write_bytes(sound)
    (path.parent / "another.npy").write_bytes(sound)
    done = fleet("verify", "out")
    assert done.returncode == 3 and "another.npy: must be listed in manifest.json" in done.stdout


def test_faults_name_file_line_field_and_rule_and_nothing_is_written(fleet: FleetCommand) -> None:
    """All of them at once."""
    fleet.write(
        "in.jsonl",
        lines(
            {"prompt": "a", "interpolate": {"seeds": [3]}},
            {"prompt": "a", "interpolate": {"seeds": [3, 8], "frames": 1}},
            {"prompt": "a", "trace": {"frames": 99}, "num_inference_steps": 20},
            {"prompt": "a", "invert": {"image": "absent.png"}},
            {"prompt": "a", "invert": {"image": "picture.png"}, "width": 128},
            {"prompt": "a", "invert": {"image": "picture.png"}, "eta": 0.5},
            {"prompt": "a", "invert": "picture.png"},
        ),
    )
    done = fleet("run", "in.jsonl", "--out", "out", "--devices", "sim:1")
    assert done.returncode == 1 and not (fleet.folder / "out").exists()
    told = done.stderr.splitlines()[1:]
    expected = (
        "1: interpolate.seeds.1 must be given",
        "2: interpolate.frames must be at least 2, got 1",
        "3: num_inference_steps must be at least 99 for this trace, got 20",
        "4: invert.image must be a picture that can be read, got 'absent.png': it does not exist",
        "5: invert.image must be of 128x64 pixels, as the request, got 64x64 in 'picture.png'",
        "6: eta must be 0 with invert, got 0.5",
        "7: invert must be an object of names and values, got 'picture.png'",
    )
    assert told == [f"in.jsonl:{fault}" for fault in expected]


def test_a_table_has_kinds_in_columns(fleet: FleetCommand) -> None:
    """The fields of a kind are columns, in CSV with JSON where they are lists."""
    fleet.write("in.csv", 'prompt,invert.image,interpolate.seeds\na,picture.png,\nb,,"[3, 8]"\n')
    done = fleet("submit", "in.csv", "--plan", "--num-inference-steps", "10", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["requests"], plan["images"], plan["steps"]) == (2, 10, 20 + 9 * 10)
