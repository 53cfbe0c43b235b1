"""A run as version 0.1.0 wrote it, before rows said what was seen of a prompt: five images of the small checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from ddim_core.storage.run_folder import RunFolder

DATA = Path(__file__).parents[1] / "data" / "older-run"
KEYS = {"short": "000000000", "cut": "000000001", "away": "000000002", "between": "000000003", "failed": "000010001"}
"""Of the image of each request, or its first: a plain one, a long prompt, a long negative one, an interpolation, and
one that failed because a worker's operator allowed fewer steps."""


def copied(folder: Path) -> RunFolder:
    """Return a copy of it."""
    return RunFolder(str(shutil.copytree(DATA, folder)))
