"""What the unit tests of workers share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def fake_npu_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of an executable ``npu-smi``, first on the PATH, for the test to write."""
    script = tmp_path / "bin" / "npu-smi"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return script
