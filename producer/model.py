"""What the producer must know of a checkpoint: enough to refuse a request that it cannot sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ddim_core.checkpoints.folder import PACKAGED, describe, digest, resolve
from ddim_core.contracts.plan import ModelRef
from ddim_core.schedule import ScheduleConfig


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint as requests are checked against it."""

    name: str
    """What workers resolve: a packaged checkpoint's name, or an absolute path."""
    digest: str
    schedule: ScheduleConfig
    size_factor: int
    """Height and width must be multiples of it, in pixels."""
    default_height: int
    """Pixels."""
    default_width: int
    """Pixels."""

    def ref(self) -> ModelRef:
        """Return how a plan names this checkpoint."""
        return ModelRef(name=self.name, digest=self.digest, scheduler=asdict(self.schedule))


def read_model(name_or_path: str) -> Model:
    """Return a checkpoint, by a packaged one's name or the path of a folder.

    Raises:
        CheckpointError: There is none, a file is missing, or its weights are pickled.
    """
    folder = resolve(name_or_path)
    info = describe(folder)
    return Model(
        name=name_or_path if name_or_path in PACKAGED else str(Path(folder).absolute()),
        digest=digest(folder),
        schedule=info.schedule,
        size_factor=info.vae_scale_factor,
        default_height=info.default_height,
        default_width=info.default_width,
    )
