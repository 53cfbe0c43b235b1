"""Failed images are read from parts, and a part that cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.errors import StorageError
from ddim_core.storage.run_folder import encode_part, part_path
from producer.runs.failures import failed_images
from tests.unit.producer.written_runs import written_run


@pytest.mark.parametrize("place", [-40, -1000])
def test_a_damaged_part_is_named_in_one_line(tmp_path: Path, place: int) -> None:
    """At the first place pyarrow raises an OSError, at the second one of its own errors."""
    folder = written_run(tmp_path)
    data = bytearray(encode_part([]))
    data[place : place + 20] = b"\xff" * 20
    folder.store.put(part_path(0), bytes(data))
    with pytest.raises(StorageError, match=r"parts/00000\.parquet is damaged: [^\n]+\Z"):
        list(failed_images(folder))
