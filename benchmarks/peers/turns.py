"""How a peer takes turns: a batch of prompts comes in as a line, and one word goes out when their images are made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.peer import DONE, READY


def told() -> dict[str, Any]:
    """Return what ``Peer`` was told."""
    return json.loads(sys.argv[1])


def take_turns(run: Callable[[list[str]], object]) -> None:
    """Make a batch of images for every line of prompts, until the input ends."""
    print(READY, flush=True)
    for line in sys.stdin:
        run(json.loads(line))
        print(DONE, flush=True)
