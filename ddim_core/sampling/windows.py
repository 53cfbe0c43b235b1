"""The tokens of a prompt in windows of the length that a text encoder takes. Knows no tensor.

The convention is the one that AUTOMATIC1111's web UI, ComfyUI, compel and the ``lpw`` community pipelines of diffusers
share for prompts without weights: the tokens are cut every 75 (the encoder's 77 but for BOS and EOS), wherever that
falls; each window is BOS, its tokens, EOS and padding, as the tokenizer would write them alone; each is encoded alone,
and the hidden states are put one after the other. Of two texts the shorter one is filled up with windows of the empty
text. BOS and EOS of inner windows stay. What differs among them: the web UI looks for a comma to cut at, and is not
followed in that.
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
        limit = spec.windows * self.room
        for field, text in (("prompt", spec.prompt), ("negative_prompt", spec.negative_prompt)):
            count = len(self.tokenize(text))
            if count <= limit:
                continue
            if spec.long_prompts != "cut":
                raise PromptTooLongError(field, tokens=count, limit=limit, windows=spec.windows)
            logger.debug("a text was cut", extra={"action": "prompt_cut", "tokens": count, "limit": limit})

    def _window(self, tokens: Sequence[int]) -> Window:
        marked = (self.bos, *tokens, self.eos)
        return marked + (self.pad,) * (self.length - len(marked))
