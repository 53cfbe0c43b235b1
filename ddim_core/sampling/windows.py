"""The tokens of a prompt in windows of the length that a text encoder takes. Knows no tensor.

The convention is that of compel, for prompts without weights: the tokens are cut every 75 (the encoder's 77 but for BOS
and EOS), wherever that falls; each window is BOS, its tokens, EOS and padding, as the tokenizer would write them alone;
each is encoded alone, and the hidden states are put one after the other, inner BOS and EOS included. Of two texts the
shorter one is filled up with windows of the empty text. AUTOMATIC1111's web UI and ComfyUI do the same, but look for a
comma or a word's end to cut at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ddim_core.contracts.sample import SampleSpec
from ddim_core.errors import PromptTooLongError

logger = logging.getLogger(__name__)

Window: TypeAlias = tuple[int, ...]
"""Token ids, as many as a text encoder takes."""

_MARKS = 2  # BOS and EOS


@dataclass(frozen=True, slots=True)
class TokenWindows:
    """How the tokens of one text encoder fill its windows."""

    tokenize: Callable[[str], Sequence[int]]
    """Returns all tokens of a text, without BOS, EOS and padding."""
    bos: int
    eos: int
    pad: int
    length: int
    """Of a window."""

    @property
    def room(self) -> int:
        """How many tokens of a text a window holds."""
        return self.length - _MARKS

    def of(self, text: str, count: int) -> list[Window]:
        """Return the first ``count`` windows of a text; those after its last token are those of the empty text."""
        tokens = self.tokenize(text)
        return [self._window(tokens[i * self.room : (i + 1) * self.room]) for i in range(count)]

    def check(self, spec: SampleSpec) -> None:
        """Make sure that the windows of a spec hold its texts, unless they may be cut.

        Raises:
            PromptTooLongError: One of them has too many tokens.
        """
        for name, text in (("prompt", spec.prompt), ("negative_prompt", spec.negative_prompt)):
            count = len(self.tokenize(text))
            if count <= spec.windows * self.room:
                continue
            if spec.long_prompts == "chunk":
                needed = -(-count // self.room)
                raise PromptTooLongError(f"windows must be at least {needed} for the {name}, got {spec.windows}")
            if spec.long_prompts == "refuse":
                raise PromptTooLongError(f"{name} must have at most {self.length} tokens, got {count + _MARKS}")
            logger.debug("a text was cut", extra={"action": "prompt_cut", "tokens": count + _MARKS})

    def _window(self, tokens: Sequence[int]) -> Window:
        marked = (self.bos, *tokens, self.eos)
        return marked + (self.pad,) * (self.length - len(marked))
