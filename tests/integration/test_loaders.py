"""The loaders that people train with open what a run leaves: counts, captions, types, and an image that decodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddim_core.contracts.record import RECORD_SCHEMA
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from ddim_core.storage.urls import folder_of
from producer.verify import RunCheck
from tests.integration.finished_run import finished_run

PROMPTS = ("a red circle", 'line\nbreak \u2028 and "quotes"', "---\n# a heading | $x$ {y}", "ein großes Bild 图")
REQUESTS = (
    Request(prompt=PROMPTS[0], num_images_per_prompt=3, height=32, width=48),
    Request(prompt=PROMPTS[1], guidance_scale=1, eta=1, seed=2**63 - 1, metadata={"split": "train"}),
    Request(prompt="sim:fail"),
    Request(prompt=PROMPTS[2], num_inference_steps=3, guidance_scale=2.5),
    Request(prompt=PROMPTS[3], scheduler={"timestep_spacing": "trailing"}),
)
CAPTIONS = [PROMPTS[0]] * 3 + list(PROMPTS[1:])
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

Load = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def webdataset_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two shards, one image of it failed."""
    return folder_of(finished_run(str(tmp_path_factory.mktemp("wds") / "run"), REQUESTS).url)


@pytest.fixture(scope="module")
def imagefolder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an image folder."""
    return folder_of(finished_run(str(tmp_path_factory.mktemp("files") / "run"), REQUESTS, "imagefolder").url)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Give a function that runs a loader's code in a process of its own, which prints a JSON value.

    The loaders read the environment, and warn, when they are imported; MindSpore starts threads then.
    """

    def run(code: str, *arguments: object) -> list[Any]:
        environment = {**os.environ, **OFFLINE, "HF_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
        # Without Python's own end, in which threads of pyarrow, as loaders start them, now and then abort the process.
        code = f"import json, os, sys\n{code}\nsys.stdout.flush()\nos._exit(0)"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert ended.returncode == 0, ended.stderr
        rows: list[Any] = json.loads(ended.stdout.splitlines()[-1])
        return rows

    return run


DATASETS = """
import datasets
rows = datasets.load_dataset(sys.argv[1], split="train", **json.loads(sys.argv[2]))
image = "png" if "png" in rows.column_names else "image"
print(json.dumps([{**row, image: [row[image].size, len(row[image].convert("RGB").tobytes())]} for row in rows]))
"""


def test_datasets_reads_the_shards(load: Load, webdataset_run: Path) -> None:
    """Captions come back with their line breaks, large seeds and floats with their values."""
    rows = load(DATASETS, "webdataset", json.dumps({"data_files": f"{webdataset_run}/shards/*.tar"}))
    assert [row["txt"] for row in rows] == CAPTIONS
    assert [row["png"] for row in rows[2:4]] == [[[48, 32], 48 * 32 * 3], [[32, 32], 32 * 32 * 3]]
    samples = [row["json"] for row in rows]
    assert [sample["guidance_scale"] for sample in samples] == [7.5, 7.5, 7.5, 1.0, 2.5, 7.5]
    assert samples[3]["seed"] == 2**63 - 1


def test_datasets_reads_the_image_folder(load: Load, imagefolder_run: Path) -> None:
    """Through metadata.jsonl, which gives each file its caption."""
    rows = load(DATASETS, "imagefolder", json.dumps({"data_dir": f"{imagefolder_run}/images"}))
    assert [row["text"] for row in rows] == CAPTIONS
    assert [row["image"] for row in rows[2:4]] == [[[48, 32], 48 * 32 * 3], [[32, 32], 32 * 32 * 3]]
    assert [row["eta"] for row in rows] == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert rows[3]["seed"] == 2**63 - 1


def test_datasets_reads_a_run_by_its_folder_alone(load: Load, webdataset_run: Path, imagefolder_run: Path) -> None:
    """The card says which files are the dataset; without it the chunk files would be taken for data."""
    assert [row["txt"] for row in load(DATASETS, webdataset_run, "{}")] == CAPTIONS
    assert [row["text"] for row in load(DATASETS, imagefolder_run, "{}")] == CAPTIONS


def test_croissant_is_valid_and_leads_to_the_rows(load: Load, webdataset_run: Path, imagefolder_run: Path) -> None:
    """MLCommons' own reader validates it, compares each part with its hash, and reads the columns from there."""
    for run in (webdataset_run, imagefolder_run):
        rows = load(
            """
import mlcroissant
rows = mlcroissant.Dataset(sys.argv[1]).records("rows")
print(json.dumps([[row["rows/prompt"].decode(), row["rows/seed"], row["rows/status"].decode()] for row in rows]))
""",
            run / "croissant.json",
        )
        made = [(prompt, seed) for prompt, seed, status in rows if status == "success"]
        assert [prompt for prompt, _ in made] == CAPTIONS
        assert made[3][1] == 2**63 - 1 and len(rows) == 7


def test_card_and_croissant_are_in_the_manifest(webdataset_run: Path, imagefolder_run: Path) -> None:
    """What a run ships with is checked with it."""
    for run in (webdataset_run, imagefolder_run):
        check = RunCheck(RunFolder(str(run)))
        assert {"README.md", "croissant.json"} < {entry.path for entry in check.manifest.files}
        assert list(check.faults()) == []


def test_webdataset_reads_the_shards(load: Load, webdataset_run: Path) -> None:
    """Grouped by key, every sample with the same members."""
    rows = load(
        """
import webdataset
shards = webdataset.WebDataset(sys.argv[1:], shardshuffle=False).decode("pil")
print(json.dumps([{**sample, "png": sample["png"].size, "__local_path__": ""} for sample in shards]))
""",
        *sorted((webdataset_run / "shards").glob("*.tar")),
    )
    assert [row["txt"] for row in rows] == CAPTIONS
    assert [row["__key__"] for row in rows][-3:] == ["000000003", "000010001", "000010002"]
    assert {tuple(sorted(row)) for row in rows} == {("__key__", "__local_path__", "__url__", "json", "png", "txt")}


def test_pyarrow_reads_the_parts_as_one_table(webdataset_run: Path, imagefolder_run: Path) -> None:
    """With failed rows, filtered by a column; totals lie beside the parts, so they are named by their suffix."""
    import pyarrow.dataset as pads

    for run in (webdataset_run, imagefolder_run):
        parts = pads.dataset(sorted(map(str, run.glob("parts/*.parquet"))))
        assert parts.schema.equals(RECORD_SCHEMA)
        assert parts.count_rows() == 7
        made = parts.to_table(columns=["prompt", "seed", "sha256"], filter=pads.field("status") == "success")
        assert made["prompt"].to_pylist() == CAPTIONS
        assert all(made["sha256"].to_pylist())


@pytest.mark.mindspore
def test_mindspore_reads_the_image_folder_with_its_captions(load: Load, imagefolder_run: Path) -> None:
    """``GeneratorDataset`` over metadata.jsonl: MindSpore's own ImageFolderDataset knows class folders, no captions."""
    pytest.importorskip("mindspore")
    rows = load(
        """
from pathlib import Path
import mindspore.dataset as ms
import numpy as np

class Captioned:
    def __init__(self, images):
        self.images = images
        self.rows = [json.loads(line) for line in (images / "metadata.jsonl").read_bytes().splitlines()]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return np.fromfile(self.images / row["file_name"], np.uint8), row["text"]

pairs = ms.GeneratorDataset(Captioned(Path(sys.argv[1])), ["image", "text"], shuffle=False)
pairs = pairs.map(ms.vision.Decode(), "image")
rows = pairs.create_dict_iterator(num_epochs=1, output_numpy=True)
print(json.dumps([{"image": row["image"].shape, "text": str(row["text"])} for row in rows]))
""",
        imagefolder_run / "images",
    )
    assert [row["text"] for row in rows] == CAPTIONS
    assert [row["image"] for row in rows[2:4]] == [[32, 48, 3], [32, 32, 3]]


@pytest.mark.mindspore
def test_mindspore_reads_the_shards_through_webdataset(load: Load, webdataset_run: Path) -> None:
    """An iterable source of decoded pictures and captions."""
    pytest.importorskip("mindspore")
    rows = load(
        """
import mindspore.dataset as ms
import webdataset

pairs = webdataset.WebDataset(sys.argv[1:], shardshuffle=False).decode("rgb8").to_tuple("png", "txt")
rows = ms.GeneratorDataset(pairs, ["image", "text"]).create_dict_iterator(num_epochs=1, output_numpy=True)
print(json.dumps([{"image": row["image"].shape, "text": str(row["text"])} for row in rows]))
""",
        *sorted((webdataset_run / "shards").glob("*.tar")),
    )
    assert [row["text"] for row in rows] == CAPTIONS
    assert [row["image"] for row in rows[2:4]] == [[32, 48, 3], [32, 32, 3]]
