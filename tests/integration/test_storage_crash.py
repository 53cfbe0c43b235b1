"""A process that is killed in the middle of a write leaves nothing that could be taken for an object."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from ddim_core.storage.objects import ObjectStore

SIZE_BYTES = 8_000_000
WRITER = f"""
import sys
from ddim_core.storage.objects import ObjectStore
store = ObjectStore(sys.argv[1])
for number in range(1_000_000):
    store.put("shards/00000.tar", bytes([number % 256]) * {SIZE_BYTES})
    store.put(f"parts/{{number:05d}}.parquet", bytes([number % 256]) * {SIZE_BYTES})
    store.delete(f"parts/{{number:05d}}.parquet")
"""


def test_a_reader_sees_whole_objects_before_and_after_the_writer_is_killed(tmp_path: Path) -> None:
    """Both while an object is replaced again and again, and after SIGKILL."""
    store = ObjectStore(str(tmp_path / "run"))
    for pause_s in (0.02, 0.05, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run")])
        try:
            while not store.exists("shards/00000.tar"):
                time.sleep(0.01)
            time.sleep(pause_s)
            assert_whole(store)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
        assert_whole(store)
        store.delete("shards/00000.tar")


def assert_whole(store: ObjectStore) -> None:
    """Check that the object is of one write, and that nothing shorter is listed."""
    data = store.get("shards/00000.tar")
    assert len(data) == SIZE_BYTES
    assert data == data[:1] * SIZE_BYTES
    assert {size for _, size in store.list("")} == {SIZE_BYTES}
