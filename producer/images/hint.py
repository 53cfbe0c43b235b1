"""Where the picture is: what to say at a run's end."""

from __future__ import annotations

import shlex

from producer.runs.progress import RunStatus


def how_to_see(status: RunStatus) -> str:
    """Return the command that writes a run's images as files, or an empty text as long as it has none."""
    if not status.images_made:
        return ""
    return f"ddim-fleet extract {shlex.quote(status.run_url)} --out ./pictures"
