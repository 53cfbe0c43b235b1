"""Write a run of very many chunks, all committed: for measuring what its end, its status and its report cost.

    python -m tools.large_run FOLDER --chunks 100000

Every file is one that the fleet could have written, but for its picture: all show the same eight by eight pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.plan import ModelRef, PlannedRequest, RunPlan, image_key
from ddim_core.contracts.record import FAILED, RECORD_SCHEMA, SUCCESS, Record, column_of
from ddim_core.contracts.request import Request
from ddim_core.schedule import ScheduleConfig
from ddim_core.storage.run_folder import chunk_path, encode_chunk, file_entry, part_path, shard_path, stats_path

STARTED_AT = "2026-01-01T00:00:00.000+00:00"
_SIDE_PX = 8
_KEY, _NAME, _SHARD = image_key(0, 0), "request-00000", shard_path(0)


def write_large_run(folder: Path, chunk_count: int, *, fail_every: int = 0) -> RunPlan:
    """Write a run of as many chunks with an image each, without its manifest; return its plan.

    Of every ``fail_every`` chunks, the last holds a failed image; of none, if that is 0. At most 100,000 chunks.
    """
    plan = _plan(chunk_count)
    for name in ("chunks", "shards", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "run.json").write_text(plan.model_dump_json(indent=2))
    png = _png()
    templates = {status: _part(plan, _record(plan, status, png)) for status in (SUCCESS, FAILED)}
    for chunk in range(chunk_count):
        failed = bool(fail_every) and chunk % fail_every == fail_every - 1
        (folder / chunk_path(chunk)).write_bytes(encode_chunk([_line(chunk)]))
        shard = b"" if failed else _shard(chunk, png)
        if shard:
            (folder / shard_path(chunk)).write_bytes(shard)
        part = _for_chunk(templates[FAILED if failed else SUCCESS], chunk)
        (folder / stats_path(chunk)).write_text(_stats(chunk, shard, part).model_dump_json())
        (folder / part_path(chunk)).write_bytes(part)
    return plan


def _plan(chunk_count: int) -> RunPlan:
    return RunPlan(
        run_id=f"large-run-{chunk_count}",
        created_at=STARTED_AT,
        model=ModelRef(name="simulated", digest="0" * 64, scheduler=ScheduleConfig().to_mapping()),
        request_count=chunk_count,
        image_count=chunk_count,
        chunk_count=chunk_count,
        images_per_chunk=1,
        requests_digest="0" * 64,
    )


def _line(chunk: int) -> PlannedRequest:
    name = f"request-{chunk:05d}"
    request = Request(prompt="a star", custom_id=name, height=_SIDE_PX, width=_SIDE_PX, num_inference_steps=2, seed=7)
    return PlannedRequest(index=chunk, image_count=1, request=request)


def _png() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (_SIDE_PX, _SIDE_PX), "navy").save(sink, "PNG")
    return sink.getvalue()


def _record(plan: RunPlan, status: str, png: bytes) -> Record:
    made = status == SUCCESS
    return Record(
        key=_KEY,
        custom_id=_NAME,
        request_index=0,
        image=0,
        status=status,
        error_code=None if made else "not_finite",
        error_class=None if made else "NotFiniteError",
        error_message=None if made else "the image holds NaN",
        prompt="a star",
        negative_prompt="",
        seed=7,
        image_index=0,
        num_inference_steps=2,
        guidance_scale=7.5,
        guidance_rescale=0.0,
        eta=0.0,
        height=_SIDE_PX,
        width=_SIDE_PX,
        scheduler=json.dumps(plan.model.scheduler, sort_keys=True),
        metadata={},
        model=plan.model.name,
        model_digest=plan.model.digest,
        format="png",
        path=_SHARD if made else None,
        size_bytes=len(png) if made else None,
        sha256=hashlib.sha256(png).hexdigest() if made else None,
        device_kind="sim",
        device="sim:0",
        slots=8,
        dtype="none",
        worker="host/sim:0/1",
        versions="{}",
        seconds=0.01,
    )


def _part(plan: RunPlan, record: Record) -> bytes:
    """Return a part that is not compressed, so that the names in it can be replaced by others of the same length."""
    sink = io.BytesIO()
    columns = {name: column_of([record], name) for name in RECORD_SCHEMA.names}
    pq.write_table(pa.table(columns, schema=RECORD_SCHEMA), sink, compression="none")
    return sink.getvalue()


def _for_chunk(part: bytes, chunk: int) -> bytes:
    names = {_KEY: image_key(chunk, 0), _NAME: f"request-{chunk:05d}", _SHARD: shard_path(chunk)}
    for template, name in names.items():
        assert len(template) == len(name)
        part = part.replace(template.encode(), name.encode())
    return part


def _shard(chunk: int, png: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for suffix, data in (("png", png), ("txt", b"a star"), ("json", b"{}")):
            member = tarfile.TarInfo(f"{image_key(chunk, 0)}.{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def _stats(chunk: int, shard: bytes, part: bytes) -> ChunkStats:
    files = [file_entry(shard_path(chunk), shard)] if shard else []
    return ChunkStats(
        chunk=chunk,
        images=int(bool(shard)),
        failed=int(not shard),
        attempts=1,
        seconds=1.0,
        started_at=STARTED_AT,
        finished_at=f"2026-01-01T{chunk // 3600 % 24:02d}:{chunk // 60 % 60:02d}:{chunk % 60:02d}.000+00:00",
        worker="host/sim:0/1",
        device="sim:0",
        files=(*files, file_entry(part_path(chunk), part)),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--chunks", default=100_000, show_default=True)
@click.option("--fail-every", default=0, show_default=True)
def main(folder: Path, chunks: int, fail_every: int) -> None:
    """Write a run of as many chunks to FOLDER."""
    print(f"{write_large_run(folder, chunks, fail_every=fail_every).chunk_count} chunks in {folder}")


if __name__ == "__main__":
    main()
