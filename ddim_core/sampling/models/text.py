"""Prompts to what a denoiser is conditioned on: CLIP's text encoders in batches of one size, and a memory of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from mindspore import Tensor, ops

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.checkpoints.tokens import clip_tokenizer
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.step import Conditions
from ddim_core.sampling.windows import TokenWindows, Window

# Fixed batches: a result's bytes depend on the batch's shape, and every shape compiles anew.
_TEXT_BATCH = 8
_REMEMBERED = 1024

_Windows: TypeAlias = tuple[Window, ...]  # of one place in a text, for each of the encoders


class TextEncoder:
    """A text encoder and the windows of tokens that it takes."""

    def __init__(self, network_class: Any, info: CheckpointInfo, number: str, dtype: str) -> None:
        """Load a checkpoint's text encoder and tokenizer: those of its folders whose names end in ``number``."""
        self._network = load_network(network_class, info.folder / f"text_encoder{number}", dtype)
        name = f"tokenizer{number}"
        self.windows = _token_windows(info.folder / name, info.text_limits[name])

    def __call__(self, windows: Sequence[Window], *, hidden_states: bool = False) -> tuple[Any, ...]:
        """Return the network's outputs for a batch of windows, with every layer's hidden states last if asked for."""
        ids = Tensor(np.array(windows, np.int32))
        outputs: tuple[Any, ...] = self._network(ids, output_hidden_states=hidden_states)
        return outputs


class PromptMemory:
    """Has the texts of samples encoded, window by window in batches, and remembers the recent windows."""

    def __init__(self, windows: Sequence[TokenWindows], encode: Callable[..., Conditions]) -> None:
        """Take the windows of each text encoder, and what makes conditions of them.

        Args:
            windows: Of every text encoder.
            encode: Given a batch of B windows for every encoder, it returns a batch of conditions, each [B, ...]; the
                first one is the hidden states, [B, T, D].
        """
        self._windows = windows
        self._encode = encode
        self._remembered: OrderedDict[_Windows, Conditions] = OrderedDict()

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return the conditions of prompt and negative prompt of each spec, without the axis of the batch."""
        pairs = [(self._of(spec.prompt, spec.windows), self._of(spec.negative_prompt, spec.windows)) for spec in specs]
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        found = self._encoded(list(dict.fromkeys(windows for text in texts for windows in text)))
        joined = {text: _joined([found[windows] for windows in text]) for text in texts}
        return [(joined[prompt], joined[negative_prompt]) for prompt, negative_prompt in pairs]

    def _of(self, text: str, count: int) -> tuple[_Windows, ...]:
        """Return the windows of a text, each for all encoders."""
        return tuple(zip(*(windows.of(text, count) for windows in self._windows), strict=True))

    def _encoded(self, wanted: Sequence[_Windows]) -> dict[_Windows, Conditions]:
        found = {windows: self._remembered[windows] for windows in wanted if windows in self._remembered}
        missing = [windows for windows in wanted if windows not in found]
        for start in range(0, len(missing), _TEXT_BATCH):
            batch = missing[start : start + _TEXT_BATCH]
            filled = [*batch, *self._of("", 1) * (_TEXT_BATCH - len(batch))]
            encoded = self._encode(*zip(*filled, strict=True))
            found.update({windows: tuple(part[i] for part in encoded) for i, windows in enumerate(batch)})
        self._remember(found)
        return found

    def _remember(self, found: dict[_Windows, Conditions]) -> None:
        self._remembered.update(found)
        for windows in found:
            self._remembered.move_to_end(windows)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)


def _joined(parts: Sequence[Conditions]) -> Conditions:
    """Return the conditions of a text: the hidden states of its windows, [windows * T, D], and the first one's others.

    SDXL has a pooled text beside them. compel, AUTOMATIC1111's web UI and ComfyUI take the first window's, which says
    what the picture is of; diffusers' ``lpw_stable_diffusion_xl`` takes the last one's.
    """
    if len(parts) == 1:
        return parts[0]
    return ops.concat([part[0] for part in parts], axis=0), *parts[0][1:]


def _token_windows(folder: Path, length: int) -> TokenWindows:
    """Return the windows of a checkpoint's tokenizer for a text encoder that takes ``length`` tokens."""
    tokenizer = clip_tokenizer(folder)
    tokenize = lru_cache(_REMEMBERED)(lambda text: tokenizer.ids(text)[1:-1])
    return TokenWindows(tokenize, *tokenizer.marks, length)
