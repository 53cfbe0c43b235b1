"""What the model saw of a prompt is what its row, its caption and its run's totals say."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from ddim_core.checkpoints import describe, resolve
from ddim_core.checkpoints.prompts import PromptReader, prompt_reader
from ddim_core.contracts.manifest import ChunkStats, Manifest
from ddim_core.contracts.plan import ModelRef, PlannedRequest, RunPlan, chunk_items
from ddim_core.contracts.record import FAILED, SUCCESS, Record, caption_of, is_cut, spec_of
from ddim_core.contracts.request import Request
from ddim_core.storage.commits import Commits
from ddim_core.storage.run_folder import RunFolder, decode_part, encode_part, read_part, stats_path
from tests.unit.checkpoints.vocabularies import shapes
from tests.unit.workers.samples import FACTS, ScriptedSampler, plan
from workers.chunks.commit import Clock, commit_chunk
from workers.chunks.maker import ChunkMaker
from workers.chunks.progress import Progress
from workers.chunks.records import RecordMaker
from workers.coordination.connection import Board
from workers.coordination.run_notes import Tally
from workers.finishing.dataset_card import dataset_card
from workers.finishing.dataset_facts import DatasetFacts
from workers.finishing.finisher import Contents
from workers.finishing.metadata import METADATA, MetadataTable
from workers.finishing.results import RESULTS, ResultLines
from workers.meter import Meter
from workers.samplers.loading import load_simulated
from workers.samplers.samplers import LoadedSampler
from workers.samplers.simulated import draw
from workers.settings import Device, SamplerSettings

CAPTION = "a large red circle on a white background"
LONG = f"{CAPTION}, highly detailed, best quality, sharp focus"
SEEN = shapes().seen(LONG, 24)
READER = prompt_reader(describe(resolve("shapes")))


def request(prompt: str = CAPTION, **fields: Any) -> Request:
    return Request(prompt=prompt, seed=7, height=8, width=16, custom_id="c", num_inference_steps=3, **fields)


def run_plan(*, mode: str | None = "refuse", container: str = "webdataset") -> RunPlan:
    defaults = {} if mode is None else {"long_prompts": mode}
    return plan(1, container=container).model_copy(update={"defaults": defaults})


@pytest.fixture
def encoders() -> Iterator[ThreadPoolExecutor]:
    """Give an encoder thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Chunk:
    """A chunk of one image, made by a sampler that answers at once."""

    def __init__(self, folder: Path, encoders: ThreadPoolExecutor, run: RunPlan, reader: PromptReader | None = READER):
        self.folder, self.plan, self.sampler = RunFolder(str(folder)), run, ScriptedSampler()
        self.records = RecordMaker(run, FACTS, "host/cpu:0/1", 1, prompts=reader)
        tally = Tally(Board("redis://127.0.0.1:1/0"), run.run_id)
        loaded = LoadedSampler(self.sampler, FACTS, reader)
        progress = Progress(tally, 0, Meter())
        self.maker = ChunkMaker(self.folder, 0, loaded, encoders, self.records, progress)

    def commit(self, given: Request, windows: int = 1) -> Record:
        """Make and commit the image; return its row as it is read again."""
        line = PlannedRequest(index=0, image_count=1, windows=windows, request=given)
        rows = self.maker.make(chunk_items(self.plan, 0, [line]))
        commit_chunk(Commits(self.folder), 0, rows, self.records, Clock())
        (record,) = self.folder.read_records(0)
        return record

    def stats(self) -> ChunkStats:
        """Return the totals."""
        return self.folder.read_stats(0)

    def members(self) -> dict[str, bytes]:
        """Return caption and JSON of the shard."""
        with tarfile.open(fileobj=io.BytesIO(self.folder.store.get("shards/00000.tar"))) as tar:
            return {name.partition(".")[2]: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]


def test_a_cut_prompt_is_told_of_in_row_shard_and_totals(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """The caption is what the model saw; what was asked for stays beside it."""
    chunk = Chunk(tmp_path, encoders, run_plan(mode="cut"))
    record = chunk.commit(request(LONG, negative_prompt=LONG))
    assert (record.prompt, record.prompt_used, record.negative_prompt_used) == (LONG, SEEN, SEEN)
    assert (record.prompt_tokens, record.negative_prompt_tokens) == (shapes().count(LONG),) * 2
    assert (record.long_prompts, record.windows) == ("cut", 1) and is_cut(record) and caption_of(record) == SEEN
    members = chunk.members()
    told = json.loads(members["json"])
    assert members["txt"].decode() == told["prompt_used"] == told["negative_prompt_used"] == SEEN
    assert (told["prompt"], told["prompt_tokens"], told["windows"]) == (LONG, shapes().count(LONG), 1)
    assert chunk.stats().cut == 1 and b'"cut":1' in chunk.folder.store.get(stats_path(0))


def test_a_prompt_that_is_seen_whole_is_its_own_caption(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """All samples of a run have the same keys with the same types, and totals that an earlier version reads."""
    chunk = Chunk(tmp_path, encoders, run_plan(mode="refuse"))
    record = chunk.commit(request())
    assert (record.prompt_used, record.prompt_tokens, record.negative_prompt_tokens) == (None, 10, 2)
    assert record.long_prompts == "refuse" and not is_cut(record)
    told = json.loads(chunk.members()["json"])
    assert (told["prompt_used"], told["negative_prompt_used"], told["long_prompts"]) == (CAPTION, "", "refuse")
    assert None not in told.values() and b"cut" not in chunk.folder.store.get(stats_path(0))


def test_a_prompt_in_windows_is_seen_whole(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """Mode and windows are all that replaying it needs."""
    chunk = Chunk(tmp_path, encoders, run_plan())
    record = chunk.commit(request(LONG, long_prompts="chunk"), windows=2)
    assert (record.status, record.prompt_used, record.long_prompts, record.windows) == (SUCCESS, None, "chunk", 2)
    assert spec_of(record) == chunk.sampler.submitted[0]
    assert chunk.members()["txt"].decode() == LONG


@pytest.mark.parametrize(
    ("fields", "windows", "message"),
    [
        ({"prompt": LONG}, 1, "prompt must have at most 24 tokens, got 41"),
        ({"negative_prompt": LONG, "long_prompts": "refuse"}, 1, "negative_prompt must have at most 24 tokens, got 41"),
        ({"prompt": LONG, "long_prompts": "chunk"}, 1, "windows must be 2, as many as the prompts fill, got 1"),
        ({"long_prompts": "chunk"}, 500, "windows must be 1, as many as the prompts fill, got 500"),
    ],
)
def test_a_worker_refuses_what_no_producer_plans(
    tmp_path: Path, encoders: ThreadPoolExecutor, fields: dict[str, Any], windows: int, message: str
) -> None:
    """By its own count of its own checkpoint, as a failed row with a code of its own; the sampler is not asked."""
    chunk = Chunk(tmp_path, encoders, run_plan(mode="refuse"))
    record = chunk.commit(request(**fields), windows)
    assert (record.status, record.error_code, record.error_message) == (FAILED, "prompt_too_long", message)
    assert record.prompt_used is None and chunk.sampler.submitted == [] and chunk.stats().cut == 0


def test_a_run_of_an_earlier_version_cuts_and_its_shards_go_on_as_they_began(
    tmp_path: Path, encoders: ThreadPoolExecutor
) -> None:
    """Its samples never said what was seen; the rows do from now on, and the caption is right."""
    chunk = Chunk(tmp_path, encoders, run_plan(mode=None))
    record = chunk.commit(request(LONG))
    assert (record.status, record.long_prompts, record.prompt_used) == (SUCCESS, "cut", SEEN)
    assert not {"prompt_used", "windows"} & json.loads(chunk.members()["json"]).keys()
    assert chunk.members()["txt"].decode() == SEEN


def test_windows_mean_nothing_where_a_prompt_is_cut() -> None:
    """A sample is made in one of them then, whatever a chunk's line says."""
    line = PlannedRequest(index=0, image_count=1, windows=3, request=request(LONG, long_prompts="cut"))
    (item,) = chunk_items(run_plan(), 0, [line])
    assert (item.spec.windows, item.spec.long_prompts) == (1, "cut")


def test_a_worker_that_cannot_count_says_nothing(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """Of a class there is no text encoder; of a checkpoint that is not there, the simulated device knows nothing."""
    chunk = Chunk(tmp_path, encoders, run_plan(), reader=None)
    record = chunk.commit(request(LONG))
    assert (record.status, record.prompt_tokens, record.prompt_used, record.windows) == (SUCCESS, None, None, 1)
    assert "prompt_tokens" not in json.loads(chunk.members()["json"])


def test_the_simulated_device_counts_for_a_packaged_checkpoint_alone() -> None:
    """It takes every other one for present without looking for it."""
    settings = SamplerSettings(device=Device(kind="sim", index=0))
    for name, knows in (("shapes", True), ("/models/other", False)):
        loaded = load_simulated(settings, ModelRef(name=name, digest="d", scheduler={}))
        loaded.sampler.close()
        assert (loaded.prompts is not None) == knows


def test_a_simulated_picture_of_a_short_prompt_is_that_of_earlier_versions() -> None:
    """What else could become of the prompt is no part of it; the windows of a long one are."""
    (item,) = chunk_items(run_plan(mode="refuse"), 0, [PlannedRequest(index=0, image_count=1, request=request())])
    cut, windows = replace(item.spec, long_prompts="cut"), replace(item.spec, long_prompts="chunk", windows=2)
    assert (draw(item.spec) == draw(cut)).all() and not (draw(item.spec) == draw(windows)).all()


def rows_of(encoders: ThreadPoolExecutor, folder: Path, *given: Request, container: str = "webdataset") -> list[Record]:
    return [
        Chunk(folder / str(number), encoders, run_plan(mode="cut", container=container)).commit(each)
        for number, each in enumerate(given)
    ]


def test_totals_and_card_count_the_images_of_cut_prompts(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """Failed ones are none of them; the card shows what was seen, and says nothing where nothing was cut."""
    cut, whole = rows_of(encoders, tmp_path, request(LONG), request())
    contents = Contents()
    contents.add(Chunk(tmp_path / "0", encoders, run_plan()).stats(), [cut, whole, replace(cut, status=FAILED)])
    text = contents.files.manifest(contents.totals(run_plan()))
    assert Manifest.model_validate_json(text).cut == 1
    card = dataset_card(run_plan(), contents.facts).decode()
    assert "| images whose prompt was cut | 1 |" in card and "sharp" not in card
    plain = DatasetFacts()
    plain.add(whole)
    assert "cut" not in dataset_card(run_plan(), plain).decode().replace("could", "")


def test_the_table_of_an_image_folder_has_what_was_seen_as_its_text(
    tmp_path: Path, encoders: ThreadPoolExecutor
) -> None:
    """And what was asked for under its own name."""
    folder, table = RunFolder(str(tmp_path / "run")), MetadataTable()
    rows = rows_of(encoders, tmp_path, request(LONG), request(), container="imagefolder")
    for row in read_part(encode_part(rows)).to_pylist():  # as whoever finishes a run has them
        table.add(SimpleNamespace(**row))
    table.write(folder)
    first, second = pq.read_table(io.BytesIO(folder.store.get(METADATA))).to_pylist()
    assert (first["text"], first["prompt"], first["prompt_tokens"]) == (SEEN, LONG, shapes().count(LONG))
    assert (second["text"], second["prompt"], second["windows"]) == (CAPTION, CAPTION, 1)


def test_a_result_line_says_which_prompt_was_used_in_place_of_the_one_asked_for(
    tmp_path: Path, encoders: ThreadPoolExecutor
) -> None:
    """Under the name that OpenAI's images have for it, where it is another one."""
    folder, lines = RunFolder(str(tmp_path / "run")), ResultLines(run_plan())
    for number, row in enumerate(rows_of(encoders, tmp_path, request(LONG), request())):
        lines.add(replace(row, request_index=number))
    lines.write(folder)
    bodies = [json.loads(line)["response"]["body"] for line in folder.store.get(RESULTS).splitlines()]
    assert [body["data"][0].get("revised_prompt") for body in bodies] == [SEEN, None]


def without(part: bytes, names: Sequence[str]) -> bytes:
    table = pq.read_table(io.BytesIO(part))
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(list(names)), sink)
    return sink.getvalue()


@pytest.mark.parametrize("also", [(), ("error_code",)])
def test_parts_of_earlier_versions_are_read_as_cut_in_one_window(
    tmp_path: Path, encoders: ThreadPoolExecutor, also: tuple[str, ...]
) -> None:
    """With nobody having counted."""
    (row,) = rows_of(encoders, tmp_path, request(LONG, negative_prompt=LONG))
    texts = ("prompt_used", "negative_prompt_used", "prompt_tokens", "negative_prompt_tokens")
    (older,) = decode_part(without(encode_part([row]), (*texts, "long_prompts", "windows", *also)))
    assert older == replace(row, **dict.fromkeys(texts), long_prompts="cut", windows=1)
