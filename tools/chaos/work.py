"""What the workers are given to do."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.chaos.audit import Wanted

IMAGES_PER_CHUNK = 4
_THINGS = ("leaf", "cloud", "stone", "fish", "kite", "tree")


@dataclass(frozen=True, slots=True)
class Work:
    """A file of requests, the images it asks for, and the options it is submitted with."""

    path: Path
    wanted: Wanted
    options: Sequence[str]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    folder: Path
    """Of the rig's own; everything is below it."""
    seed: int
    images: int
    faults: int
    """How often the scenario's fault happens: kills, restarts, images of each kind of poison, damaged inputs."""
    pause_s: float = 30.0
    """How long a frozen Redis stays so; a lost host of it is away four times as long."""
    duration_s: float = 600.0
    """Of the soak."""
    timeout_s: float = 3600.0
    """For each run of the scenario."""

    devices: str | None = None
    """Of each host, in place of the scenario's simulated ones; ``cpu:1`` samples with the small checkpoint."""

    def rng(self) -> random.Random:
        """Return the scenario's source of chance."""
        return random.Random(self.seed)


def write_work(
    path: Path,
    images: int,
    *,
    steps: int = 20,
    poison: Sequence[str] = (),
    images_per_chunk: int = IMAGES_PER_CHUNK,
    seed: int = 0,
) -> Work:
    """Write requests for one image each, with poisoned prompts at places that follow from ``seed``."""
    rng = random.Random(seed)
    prompts = [f"a {rng.choice(_THINGS)} {number}" for number in range(images - len(poison))]
    for prompt in poison:
        prompts.insert(rng.randrange(len(prompts) + 1), prompt)
    names = [f"r{number:06d}" for number in range(len(prompts))]
    lines = [json.dumps({"custom_id": name, "prompt": prompt}) for name, prompt in zip(names, prompts, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    wanted = {(name, 0): prompt for name, prompt in zip(names, prompts, strict=True)}
    options = ["--height", "32", "--width", "32", "--num-inference-steps", str(steps)]
    return Work(path, wanted, [*options, "--images-per-chunk", str(images_per_chunk)])
