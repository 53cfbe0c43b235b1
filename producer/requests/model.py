"""What the producer must know of a checkpoint: enough to refuse a request that it cannot sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddim_core.checkpoints.folder import PACKAGED, describe, digest, resolve
from ddim_core.checkpoints.labels import ClassLabels
from ddim_core.checkpoints.pipelines import Takes
from ddim_core.checkpoints.prompts import PromptReader, prompt_reader
from ddim_core.checkpoints.recommended import read_recommended
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError
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
    fixed_size: bool = False
    """Whether it draws pictures of its default size alone."""
    takes: Takes = "prompt"
    """What a request tells it to draw."""
    guidance_scale: float = 7.5
    """For requests that name none."""
    inverts: bool = False
    """Whether pictures can be inverted with it."""
    labels: ClassLabels | None = None
    """The classes of one that takes ``class_label``."""
    variant: str | None = None
    """Of its weights, such as ``fp16``; None: the plain ones."""
    recommended: Mapping[str, Any] = field(default_factory=dict)
    """Fields of requests as its makers would have them, for those that do not say otherwise."""
    prompts: PromptReader | None = None
    """What tells how long prompts are to its text encoders; without it they are not looked at."""

    def ref(self) -> ModelRef:
        """Return how a plan names this checkpoint."""
        return ModelRef(name=self.name, digest=self.digest, scheduler=self.schedule.to_mapping(), variant=self.variant)


def read_model(name_or_path: str, variant: str | None = None, *, recommended: bool = True) -> Model:
    """Return a checkpoint, by a packaged one's name or the path of a folder.

    Args:
        name_or_path: Which one.
        variant: Of its weights; None takes the plain ones or, where there are none, the only variant.
        recommended: Whether to read what it recommends.

    Raises:
        CheckpointError: There is none, a file is missing, or its weights are pickled.
    """
    folder = resolve(name_or_path)
    path = Path(folder).absolute()
    info = describe(folder, variant)
    return Model(
        # Workers know a folder by its last part, which must be a name and not "..".
        name=name_or_path if name_or_path in PACKAGED else str(path.resolve() if ".." in path.parts else path),
        digest=digest(folder, info.variant),
        schedule=info.schedule,
        size_factor=info.size_factor,
        default_height=info.default_height,
        default_width=info.default_width,
        fixed_size=info.fixed_size,
        takes=info.takes,
        guidance_scale=info.guidance_scale,
        inverts=info.inverts,
        labels=info.labels,
        variant=info.variant,
        recommended=read_recommended(info) if recommended else {},
        prompts=prompt_reader(info),
    )


def checkpoint_of(model: ModelRef) -> Path:
    """Return the folder of a written plan's checkpoint on this machine.

    Raises:
        CheckpointError: It is not where it was when the run was planned, or is another one now.
    """
    folder = resolve(model.name)
    if (found := digest(folder, model.variant)) != model.digest:
        raise CheckpointError(f"checkpoint {model.name} must have digest {model.digest}, got {found}; put it back")
    return folder
