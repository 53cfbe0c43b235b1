"""Prompts to what a denoiser is conditioned on: CLIP's text encoders in batches of one size, and a memory of them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor
from transformers import CLIPTokenizer

from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.step import Conditions

logger = logging.getLogger(__name__)

# Fixed batches: a result's bytes depend on the batch's shape, and every shape compiles anew.
_TEXT_BATCH = 8
_REMEMBERED_PROMPTS = 1024


class TextEncoder:
    """A tokenizer and the text encoder that takes its tokens."""

    def __init__(self, network_class: Any, tokenizer: Path, text_encoder: Path, dtype: str) -> None:
        self._tokenizer = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
        self._network = load_network(network_class, text_encoder, dtype)
        self._length = min(self._tokenizer.model_max_length, self._network.config.max_position_embeddings)

    def __call__(self, prompts: Sequence[str], *, hidden_states: bool = False) -> tuple[Any, ...]:
        """Return the network's outputs for a batch of prompts, with every layer's hidden states last if asked for."""
        for count in map(len, self._tokenizer(list(prompts), verbose=False).input_ids):
            if count > self._length:
                extra = {"action": "prompt_cut", "tokens": count, "limit": self._length}
                logger.warning("a prompt was cut to what the text encoder takes", extra=extra)
        options = {"padding": "max_length", "max_length": self._length, "truncation": True, "return_tensors": "np"}
        tokens = self._tokenizer(list(prompts), **options)
        outputs: tuple[Any, ...] = self._network(
            Tensor(tokens.input_ids.astype(np.int32)), output_hidden_states=hidden_states
        )
        return outputs


class PromptMemory:
    """Has prompts encoded in batches, and remembers the recent ones."""

    def __init__(self, encode: Callable[[Sequence[str]], Conditions]) -> None:
        """Take what makes a batch of prompts into a batch of conditions, each [B, ...]."""
        self._encode = encode
        self._remembered: OrderedDict[str, Conditions] = OrderedDict()

    def conditions(self, prompts: Sequence[str]) -> list[Conditions]:
        """Return the conditions of each prompt, without the axis of the batch."""
        found = {prompt: self._remembered[prompt] for prompt in prompts if prompt in self._remembered}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        for start in range(0, len(missing), _TEXT_BATCH):
            batch = missing[start : start + _TEXT_BATCH]
            encoded = self._encode(batch + [""] * (_TEXT_BATCH - len(batch)))
            found.update({prompt: tuple(part[i] for part in encoded) for i, prompt in enumerate(batch)})
        self._remembered.update(found)
        for prompt in found:
            self._remembered.move_to_end(prompt)
        while len(self._remembered) > _REMEMBERED_PROMPTS:
            self._remembered.popitem(last=False)
        return [found[prompt] for prompt in prompts]
