"""What is said of a checkpoint where people choose one: by a command, and by workers of what their host has."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class CheckpointNote(BaseModel):
    """One checkpoint on one host, in order or not. Other versions' workers may say more of it, or less."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    """What a plan may call it."""
    folder: str
    fault: str = ""
    """Why it cannot be used; what follows is unknown then."""
    pipeline: str = ""
    digest: str = ""
    """Empty: nobody has read its weights yet."""
    variant: str | None = None
    """Of its weights, such as ``fp16``; None: the plain ones."""
    size_bytes: int = 0
    """Of all its files that decide what is made."""
    dtype: str = ""
    """Of its weights as they are stored; a device may run another."""
    takes: str = ""
    """What a request tells it to draw: ``prompt``, ``class_label`` or ``nothing``."""
    classes: int | None = None
    token_limit: int | None = None
    """Of a prompt, the marks of its start and end among them."""
    height: int = 0
    width: int = 0
    """Pixels, unless a request says otherwise."""
    size_factor: int = 1
    """Height and width are multiples of it."""
    fixed_size: bool = False
    """Whether it draws pictures of its default size alone."""
    guidance_scale: float = 1.0
    """Unless a request says otherwise."""
    inverts: bool = False
    recommended: dict[str, Any] = Field(default_factory=dict)
    """Fields of requests as its makers would have them."""
