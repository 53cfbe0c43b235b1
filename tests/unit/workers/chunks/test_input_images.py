"""Pictures that a run inverts, read from its folder: what is missing or another one fails its image alone."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim_core.contracts.plan import PlannedRequest, chunk_items
from ddim_core.contracts.record import FAILED, SUCCESS
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.contracts.start import Picture
from ddim_core.errors import SampleError
from ddim_core.storage.run_folder import RunFolder
from tests.unit.workers.samples import ScriptedSampler, loaded, plan, records
from workers.chunks.input_images import with_picture
from workers.chunks.maker import ChunkMaker
from workers.chunks.progress import Progress
from workers.coordination.connection import Board
from workers.coordination.run_notes import Tally
from workers.meter import Meter

PIXELS = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)


def png() -> tuple[str, bytes]:
    """Return a picture's name in a run's folder, and its bytes."""
    sink = io.BytesIO()
    Image.fromarray(PIXELS).save(sink, "PNG")
    return f"inputs/{hashlib.sha256(sink.getvalue()).hexdigest()}.png", sink.getvalue()


def picture_of(width: int, height: int, kind: str, *, claiming: tuple[int, int] | None = None) -> bytes:
    """Return a picture, in a PNG's header perhaps of another size than it is."""
    sink = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(sink, kind)
    data = sink.getvalue()
    if claiming is None:
        return data
    header = b"IHDR" + struct.pack(">II", *claiming) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def request_of(source: str, name: str) -> Request:
    fields = {"prompt": "a", "custom_id": name, "height": 8, "width": 16, "num_inference_steps": 3}
    return Request.model_validate({**fields, "invert": {"image": source}})


def inverted(spec: SampleSpec) -> SampledImage:
    """Return the picture with each value one level off, as a sampler that inverts it roughly."""
    assert isinstance(spec.start, Picture) and spec.start.pixels is not None
    return SampledImage(spec.start.pixels ^ 1, seconds=0.5, slots=2, latents=np.ones((4, 1, 2), np.float32))


def test_an_inversion_leaves_latents_and_error_and_one_without_its_picture_fails_alone(tmp_path: Path) -> None:
    """Its row says why, its neighbour's has the mean square."""
    source, data = png()
    folder = RunFolder(str(tmp_path / "run"))
    folder.store.put(source, data)
    requests = [request_of(source, "here"), request_of(f"inputs/{'0' * 64}.png", "gone")]
    lines = [PlannedRequest(index=i, image_count=1, request=request) for i, request in enumerate(requests)]
    tally = Tally(Board("redis://127.0.0.1:1/0"), "run-0001")
    with ThreadPoolExecutor(1) as encoders:
        maker = ChunkMaker(
            folder, 0, loaded(ScriptedSampler(inverted)), encoders, records(2), Progress(tally, 0, Meter())
        )
        here, gone = (row.record for row in maker.make(chunk_items(plan(2), 0, lines)))
    assert (here.status, here.source, here.latents) == (SUCCESS, source, "latents/00000/000000000.npy")
    assert here.reconstruction_error == pytest.approx(1 / 255**2)
    assert np.load(io.BytesIO(folder.store.get(here.latents))).shape == (4, 1, 2)
    assert (gone.status, gone.latents, gone.reconstruction_error) == (FAILED, None, None)
    assert gone.error_message == f"the picture inputs/{'0' * 64}.png must be in the run's folder, got nothing"


def test_a_picture_that_is_another_one_or_elsewhere_is_refused() -> None:
    """Its name is its hash; and no chunk file or row makes a worker read a file that is none of the run's."""
    source, data = png()
    spec = request_of(source, "x").samples(plan(1).model.schedule(), 0, 0, 1)[0]
    read = with_picture(spec, {source: data}.__getitem__)
    assert isinstance(read.start, Picture) and read.start.pixels is not None
    assert np.array_equal(read.start.pixels, PIXELS)
    with pytest.raises(SampleError, match="must have the sha256 of its name, got another one"):
        with_picture(spec, lambda _: data[:-1])
    with pytest.raises(SampleError, match=r"a picture must lie in inputs/ of its run, got '\.\./secret\.png'"):
        with_picture(request_of("../secret.png", "x").samples(plan(1).model.schedule(), 0, 0, 1)[0], lambda _: data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no picture", "cannot identify image file"),
        (png()[1][:40], "image file is truncated|cannot identify image file|unrecognized data stream"),
        (picture_of(64, 64, "PNG"), "64 x 64 pixels instead of 16 x 8"),
        (picture_of(16, 8, "GIF"), "cannot identify image file"),
        (picture_of(16, 8, "PNG", claiming=(60_000, 60_000)), "exceeds limit|60000 x 60000 pixels"),
    ],
)
def test_what_is_no_picture_fails_its_image_alone(data: bytes, why: str) -> None:
    """Somebody put it there; whatever it is, its chunk's other images are made."""
    source = f"inputs/{hashlib.sha256(data).hexdigest()}.png"
    request = request_of(source, "bad")
    (item,) = chunk_items(plan(1), 0, [PlannedRequest(index=0, image_count=1, request=request)])
    with pytest.raises(SampleError, match=f"the picture {source} must be one, got: .*({why})"):
        with_picture(item.spec, lambda _: data)
