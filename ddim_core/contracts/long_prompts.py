"""What becomes of a prompt that is longer than a checkpoint's text encoder takes."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

LongPrompts: TypeAlias = Literal["refuse", "cut", "chunk"]
"""Refuse the request, encode what fits, or encode all of it in windows of the encoder's length, one after the other."""
MODES: tuple[LongPrompts, ...] = get_args(LongPrompts)

DEFAULT_MAX_WINDOWS = 4
"""A prompt in ``chunk`` may take this many windows; each makes cross-attention longer and has graphs of its own."""
