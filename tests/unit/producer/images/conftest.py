"""Runs with names of all kinds, in each container, without a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ddim_core.contracts.plan import Container
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from tests.unit.storage.runs import SmallRun, write_run

IDS = ("star-7", "Star/7", "000000002", "000010000", "../x", "a" * 300)
"""Of requests: plain, not fit for a file name, a number as unnamed ones have it, and like the key of another image."""


@dataclass(frozen=True)
class NamedRun(SmallRun):
    """A run whose requests are called as told, of two images each."""

    ids: tuple[str, ...] = IDS
    images: int = 2
    prompts: tuple[str, ...] = field(default=())

    def requests(self) -> list[Request]:
        """Return a request for each id."""
        return [
            request.model_copy(update={"custom_id": custom_id, "num_images_per_prompt": self.images})
            for request, custom_id in zip(super().requests(), self.ids, strict=True)
        ]


Written = Callable[..., RunFolder]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a run of named requests, ``failing`` of which failed, into ``tmp_path / "run"``."""

    def write(ids: tuple[str, ...] = IDS, container: Container = "webdataset", **fields: object) -> RunFolder:
        colours = ("red", "green", "blue", "yellow", "orange", "purple")
        prompts = tuple(f"a {colours[number % 6]} square {number}" for number in range(len(ids)))
        run = replace(NamedRun(prompts=prompts, ids=ids, container=container), **fields)  # type: ignore[arg-type]
        return write_run(str(tmp_path / "run"), run)

    return write
