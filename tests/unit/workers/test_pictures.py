"""Pictures that a run inverts, read from its folder: what is missing or another one fails its image alone."""

from __future__ import annotations

import hashlib
import io
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
from workers.board import Board
from workers.making import ChunkMaker
from workers.pictures import with_picture
from workers.presence import Meter
from workers.tally import Progress, Tally

PIXELS = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)


def png() -> tuple[str, bytes]:
    """Return a picture's name in a run's folder, and its bytes."""
    sink = io.BytesIO()
    Image.fromarray(PIXELS).save(sink, "PNG")
    return f"inputs/{hashlib.sha256(sink.getvalue()).hexdigest()}.png", sink.getvalue()


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
