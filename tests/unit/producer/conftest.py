"""A checkpoint's facts without a checkpoint, and a way to write a file of requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.schedule import ScheduleConfig
from producer.requests.model import Model

WriteFile = Callable[[str, str | bytes], str]


@pytest.fixture
def model() -> Model:
    """A checkpoint that predicts v and makes 64x64 images, in steps of 4 pixels."""
    return Model(
        name="shapes",
        digest="sha256:0",
        schedule=ScheduleConfig(prediction_type="v_prediction"),
        size_factor=4,
        default_height=64,
        default_width=64,
    )


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Write a file and return its path as a person would type it."""

    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file
