"""The README's last example, as it stands there, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

README = Path(__file__).parents[2] / "README.md"


def test_the_schedulers_example_runs_on_a_machine_without_an_npu(tmp_path: Path) -> None:
    """Copied from the page and run: it draws what its prompt says."""
    pytest.importorskip("mindspore")
    section = README.read_text().partition("\n## The scheduler alone\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    red, green, blue = np.asarray(Image.open(tmp_path / "star.png"), np.float64).transpose(2, 0, 1)
    drawn = (red > 150) & (green < 100) & (blue < 100)
    white = (red > 200) & (green > 200) & (blue > 200)
    assert drawn.mean() > 0.1 and white.mean() > 0.3
