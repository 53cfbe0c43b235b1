"""How long a prompt is to a checkpoint's text encoders, and what they see of one that is too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ddim_core.checkpoints.folder import CheckpointInfo
from ddim_core.checkpoints.text_limits import MARKS
from ddim_core.checkpoints.tokens import ClipTokenizer, clip_tokenizer

_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class PromptSize:
    """A prompt as the text encoder takes it that it is longest for."""

    tokens: int
    """Of all of it, with the marks of start and end."""
    limit: int
    """Tokens that the text encoder takes at once, with these marks."""
    windows: int
    """Of ``limit`` tokens, each with marks of its own, that all text encoders have room for it in."""

    @property
    def is_long(self) -> bool:
        """Whether not all of it is seen at once."""
        return self.windows > 1


class PromptReader:
    """Reads prompts as all text encoders of a checkpoint do."""

    def __init__(self, encoders: Sequence[tuple[ClipTokenizer, int]]) -> None:
        """Take the tokenizer of each text encoder, and how many tokens it takes."""
        self._encoders = tuple(encoders)
        self._fits = min(limit for _, limit in encoders) - MARKS
        self._sized = lru_cache(_REMEMBERED)(self._size)
        self._cut = lru_cache(_REMEMBERED)(self._seen)

    def fits(self, text: str) -> bool:
        """Return whether a text's length alone shows that it is not too long: a token has a character of ASCII or more.

        Others are up to four bytes, each of which may be a token, and may be more of them once they are composed.
        """
        return len(text) <= self._fits and text.isascii()

    def size(self, text: str) -> PromptSize:
        """Return how long a text is."""
        return self._sized(text)

    def used(self, text: str) -> str:
        """Return the beginning of a text that all text encoders see; of one that is not too long, all of it."""
        return text if self.fits(text) else self._cut(text)

    def _seen(self, text: str) -> str:
        return min((tokenizer.seen(text, limit) for tokenizer, limit in self._encoders), key=len)

    def _size(self, text: str) -> PromptSize:
        sizes = (_size_of(tokenizer.count(text), limit) for tokenizer, limit in self._encoders)
        return max(sizes, key=lambda size: (size.windows, size.tokens - size.limit))


def _size_of(tokens: int, limit: int) -> PromptSize:
    content, room = tokens - MARKS, limit - MARKS
    return PromptSize(tokens, limit, max(1, -(-content // room)))


def prompt_reader(info: CheckpointInfo) -> PromptReader | None:
    """Return what reads the prompts of a checkpoint; None if it takes none.

    Raises:
        CheckpointError: A tokenizer's file is not what it must be.
    """
    if not info.text_limits:
        return None
    return PromptReader([(clip_tokenizer(info.folder / name), limit) for name, limit in info.text_limits.items()])
