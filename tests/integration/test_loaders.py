"""The loaders that people train with open what a run leaves: counts, captions, types, and an image that decodes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from ddim_core.contracts.image_encoding import ImageEncoding, ImageFormat
from ddim_core.contracts.plan import Container
from ddim_core.contracts.record import RECORD_SCHEMA, SUCCESS, Record
from ddim_core.contracts.request import Request
from ddim_core.storage import image_names
from ddim_core.storage.run_folder import RunFolder
from ddim_core.storage.urls import folder_of
from producer.replay.compare import read_image
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
SIZES = [[48, 32]] * 3 + [[32, 32]] * 3
LOSSY = [("jpg", 90), ("webp", 90)]
FORMATS = [("png", None), *LOSSY, ("webp", None)]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

Load = Callable[..., list[Any]]


Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Give a function that returns the folder of a finished run of two chunks, one image of it failed."""
    home = tmp_path_factory.mktemp("runs")

    def run(container: Container, image_format: ImageFormat = "png", quality: int | None = None) -> Path:
        path = home / f"{container}-{image_format}-{quality}"
        if not path.exists():
            finished_run(str(path), REQUESTS, container, image_format=image_format, quality=quality)
        return path

    return run


@pytest.fixture(scope="module")
def webdataset_run(finished: Runs) -> Path:
    """The one that people get who choose nothing."""
    return finished("webdataset")


@pytest.fixture(scope="module")
def imagefolder_run(finished: Runs) -> Path:
    """The same as an image folder."""
    return finished("imagefolder")


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
image = next(name for name in ("png", "jpg", "webp", "image") if name in rows.column_names)
print(json.dumps([{**row, image: [row[image].size, len(row[image].convert("RGB").tobytes())]} for row in rows]))
"""
ALL_RUNS = """
import datasets
found = []
for run in sys.argv[1:]:
    rows = datasets.load_dataset(run, split="train")
    image = [name for name in rows.column_names if isinstance(rows.features[name], datasets.Image)]
    texts = rows["txt" if "txt" in rows.column_names else "text"] if image else rows["prompt"]
    found.append([image, list(texts), [row[image[0]].size for row in rows] if image else []])
print(json.dumps(found))
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
    """Through metadata.parquet, which gives each file its caption and parameters, with their types."""
    rows = load(DATASETS, "imagefolder", json.dumps({"data_dir": f"{imagefolder_run}/images"}))
    assert [row["text"] for row in rows] == CAPTIONS
    assert [row["image"] for row in rows[2:4]] == [[[48, 32], 48 * 32 * 3], [[32, 32], 32 * 32 * 3]]
    assert [row["eta"] for row in rows] == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert rows[3]["seed"] == 2**63 - 1 and json.loads(rows[3]["metadata"]) == {"split": "train"}


def test_datasets_reads_any_run_by_its_folder_alone(load: Load, finished: Runs) -> None:
    """The card says which files are the dataset; without it the chunk files would be taken for data."""
    shards = [finished("webdataset", *encoding) for encoding in FORMATS]
    folders = [finished("imagefolder", *encoding) for encoding in FORMATS]
    files = finished("files", "jpg", 90)
    found = load(ALL_RUNS, *shards, *folders, files)
    assert found[:4] == [[[name], CAPTIONS, SIZES] for name, _ in FORMATS]
    assert found[4:8] == [[["image"], CAPTIONS, SIZES]] * 4
    assert found[8] == [[], [row.prompt for row in RunFolder(str(files)).records()], []]


def test_datasets_reads_an_image_folder_of_several_folders(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run of more images has that Hugging Face takes in one: they are no classes, and the captions stay theirs."""
    monkeypatch.setattr(image_names, "FILES_PER_FOLDER", 4)
    run = folder_of(finished_run(str(tmp_path / "run"), REQUESTS, "imagefolder").url)
    assert (run / "images" / "00001" / "000010001.png").exists()
    assert load(ALL_RUNS, run) == [[["image"], CAPTIONS, SIZES]]


def test_croissant_is_valid_and_leads_to_the_rows(load: Load, finished: Runs) -> None:
    """MLCommons' own reader validates it, compares each part with its hash, and reads the columns from there."""
    runs = [finished("webdataset"), finished("imagefolder", "jpg", 90), finished("files", "webp", None)]
    tables = load(
        """
import mlcroissant
print(json.dumps([
    [
        [row["rows/prompt"].decode(), row["rows/seed"], row["rows/status"].decode()]
        for row in mlcroissant.Dataset(path).records("rows")
    ]
    for path in sys.argv[1:]
]))
""",
        *(run / "croissant.json" for run in runs),
    )
    for rows in tables:
        made = [(prompt, seed) for prompt, seed, status in rows if status == "success"]
        assert [prompt for prompt, _ in made] == CAPTIONS
        assert made[3][1] == 2**63 - 1 and len(rows) == 7


@pytest.mark.parametrize("container", get_args(Container))
@pytest.mark.parametrize("encoding", FORMATS)
def test_a_run_of_any_kind_is_sound_and_its_images_are_what_they_are_called(
    finished: Runs, container: Container, encoding: tuple[ImageFormat, int | None]
) -> None:
    """The card and its tables are in the manifest; endings, media types and contents agree."""
    run = finished(container, *encoding)
    check = RunCheck(RunFolder(str(run)))
    paths = {entry.path for entry in check.manifest.files}
    assert {"README.md", "croissant.json"} < paths
    assert ("images/metadata.parquet" in paths) == (container == "imagefolder")
    assert list(check.faults()) == []
    pillow_name = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[encoding[0]]
    assert [image.format for image in images_in(run)] == [pillow_name] * 6
    described = json.loads((run / "croissant.json").read_bytes())["distribution"]
    kinds = {each["@id"]: each["encodingFormat"] for each in described}
    assert kinds.get("images", "none") == ("none" if container == "webdataset" else ImageEncoding(*encoding).media_type)
    assert kinds.get("shards", "none") == ("application/x-tar" if container == "webdataset" else "none")


def images_in(run: Path) -> list[Image.Image]:
    """Return every image of a run, opened, in the order of their rows."""
    files = [io.BytesIO(read_image(RunFolder(str(run)), row) or b"") for row in made(run)]
    return [Image.open(file) for file in files]


def made(run: Path) -> list[Record]:
    """Return the rows of the images that were made."""
    return [row for row in RunFolder(str(run)).records() if row.status == SUCCESS]


def test_loose_files_are_named_after_their_requests(finished: Runs) -> None:
    """With the number of the image; the rows know them by key."""
    run = finished("files", "jpg", 90)
    assert sorted(path.name for path in (run / "images").iterdir()) == [
        "r0_0.jpg",
        "r0_1.jpg",
        "r0_2.jpg",
        "r1_0.jpg",
        "r3_0.jpg",
        "r4_0.jpg",
    ]
    assert [row.path for row in made(run)][:2] == ["images/r0_0.jpg", "images/r0_1.jpg"]


@pytest.mark.parametrize("container", get_args(Container))
def test_a_run_made_again_has_the_same_bytes(finished: Runs, tmp_path: Path, container: Container) -> None:
    """Shards, images, captions and the card; of the parts, what another worker and another time may write."""
    first = finished(container, "jpg", 90)
    (tmp_path / "a").mkdir()
    again = folder_of(
        finished_run(str(tmp_path / "a" / "run"), REQUESTS, container, image_format="jpg", quality=90).url
    )
    paths = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    same = [path for path in paths if path.parts[0] in ("shards", "images", "chunks")]
    assert len(same) > 3
    assert [path for path in same if (first / path).read_bytes() != (again / path).read_bytes()] == []


WEBDATASET = """
import webdataset
found = []
for url in sys.argv[1:]:
    shards = webdataset.WebDataset(url, shardshuffle=False, empty_check=False).decode("pil")
    image = url.rsplit("-", 2)[-2]
    found.append([{**sample, image: sample[image].size, "__local_path__": ""} for sample in shards])
print(json.dumps(found))
"""


def test_webdataset_reads_the_shards(load: Load, finished: Runs) -> None:
    """Grouped by key, every sample with the same members."""
    runs = [finished("webdataset", *encoding) for encoding in FORMATS]
    found = load(WEBDATASET, *(f"{run}/shards/{{00000..00001}}.tar" for run in runs))
    for rows, (name, _) in zip(found, FORMATS, strict=True):
        assert [row["txt"] for row in rows] == CAPTIONS
        assert [row[name] for row in rows] == SIZES
        assert [row["__key__"] for row in rows][-3:] == ["000000003", "000010001", "000010002"]
        assert {tuple(sorted(row)) for row in rows} == {
            tuple(sorted(("__key__", "__local_path__", "__url__", "json", name, "txt")))
        }


def test_a_truncated_shard_loads_in_silence_and_verify_names_it(load: Load, tmp_path: Path) -> None:
    """Both readers take what is left of it for all there is, so the manifest has to know better."""
    folder = finished_run(str(tmp_path / "x-png-None"), REQUESTS)
    run, shard = folder_of(folder.url), "shards/00000.tar"
    data = folder.store.get(shard)
    folder.store.put(shard, data[: data.index(b"000000002.png")])
    (few,) = load(WEBDATASET, f"{run}/shards/00000.tar")
    assert len(few) == 2
    assert len(load(DATASETS, "webdataset", json.dumps({"data_files": f"{run}/shards/00000.tar"}))) == 2
    found = [str(fault) for fault in RunCheck(folder).faults()]
    assert found[0].startswith(f"{shard}: must have {len(data)} bytes, got ")
    assert f"{shard}: must be a whole tar file, got a tar file that ends in its middle" in found
    assert f"{shard}: 000000003.png must be in it, got nothing" in found


def test_pyarrow_reads_the_parts_as_one_table(finished: Runs) -> None:
    """With failed rows, filtered by a column; totals lie beside the parts, so they are named by their suffix."""
    import pyarrow.dataset as pads

    for encoding in FORMATS:
        parts = pads.dataset(sorted(map(str, finished("webdataset", *encoding).glob("parts/*.parquet"))))
        assert parts.schema.equals(RECORD_SCHEMA)
        assert parts.count_rows() == 7
        made = parts.to_table(columns=["prompt", "seed", "sha256", "quality"], filter=pads.field("status") == "success")
        assert made["prompt"].to_pylist() == CAPTIONS
        assert all(made["sha256"].to_pylist())
        assert set(made["quality"].to_pylist()) == {encoding[1]}


@pytest.mark.mindspore
def test_mindspore_reads_image_folders_with_their_captions(load: Load, finished: Runs) -> None:
    """Through ``GeneratorDataset``: MindSpore's own ImageFolderDataset knows class folders and no captions."""
    pytest.importorskip("mindspore")
    found = load(
        """
from pathlib import Path
import mindspore.dataset as ms
import numpy as np
import pyarrow.parquet as pq

class Captioned:
    def __init__(self, images):
        self.images = images
        self.rows = pq.read_table(images / "metadata.parquet", columns=["file_name", "text"]).to_pylist()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return np.fromfile(self.images / row["file_name"], np.uint8), row["text"]

found = []
for images in map(Path, sys.argv[1:]):
    pairs = ms.GeneratorDataset(Captioned(images), ["image", "text"], shuffle=False)
    pairs = pairs.map(ms.vision.Decode(to_pil="webp" in str(images)), "image")  # Pillow reads WebP, MindSpore does not
    rows = pairs.create_dict_iterator(num_epochs=1, output_numpy=True)
    found.append([[row["image"].shape, str(row["text"])] for row in rows])
print(json.dumps(found))
""",
        *(finished("imagefolder", *encoding) / "images" for encoding in FORMATS),
    )
    assert found == [[[[*size[::-1], 3], text] for size, text in zip(SIZES, CAPTIONS, strict=True)]] * len(FORMATS)


@pytest.mark.mindspore
def test_mindspore_reads_the_shards_through_webdataset(load: Load, finished: Runs) -> None:
    """An iterable source of decoded pictures and captions."""
    pytest.importorskip("mindspore")
    runs = [finished("webdataset", *encoding) for encoding in FORMATS]
    found = load(
        """
import mindspore.dataset as ms
import webdataset

found = []
for url in sys.argv[1:]:
    image = url.rsplit("-", 2)[-2]
    pairs = webdataset.WebDataset(url, shardshuffle=False).decode("rgb8").to_tuple(image, "txt")
    rows = ms.GeneratorDataset(pairs, ["image", "text"]).create_dict_iterator(num_epochs=1, output_numpy=True)
    found.append([[row["image"].shape, str(row["text"])] for row in rows])
print(json.dumps(found))
""",
        *(f"{run}/shards/{{00000..00001}}.tar" for run in runs),
    )
    assert found == [[[[*size[::-1], 3], text] for size, text in zip(SIZES, CAPTIONS, strict=True)]] * len(FORMATS)
