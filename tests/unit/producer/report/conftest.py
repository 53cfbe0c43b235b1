"""What the report's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.contracts.record import Record
from tests.unit.storage.runs import SmallRun, write_run


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """The first row of a small run, which is at ``tmp_path``."""
    return write_run(str(tmp_path), SmallRun()).read_records(0)[0]
