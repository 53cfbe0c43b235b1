"""Long prompts encoded by hand: mindone's text encoders, called with one window of tokens after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def encode_windows(encoders: Sequence[tuple[Any, Any]], text: str, windows: int) -> list[Array]:
    """Return a text's hidden states, [windows * T, D], and with two text encoders (SDXL) its pooled form, [P].

    Args:
        encoders: A tokenizer and a text encoder, or two of each.
        text: The prompt.
        windows: How many windows it fills; those after its last token are those of the empty text.
    """
    xl = len(encoders) == 2
    parts = [[_encode(*encoder, text, i, xl=xl) for i in range(windows)] for encoder in encoders]
    hidden = np.concatenate([np.concatenate([states for states, _ in part]) for part in parts], axis=-1)
    return [hidden, parts[1][0][1]] if xl else [hidden]


def _encode(tokenizer: Any, encoder: Any, text: str, window: int, *, xl: bool) -> tuple[Array, Array]:
    """Return the hidden states [T, D] of a window of a text, and the encoder's first output."""
    import mindspore as ms

    length = tokenizer.model_max_length
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    tokens = tokens[window * (length - 2) : (window + 1) * (length - 2)]
    ids = tokenizer.prepare_for_model(tokens, max_length=length, padding="max_length").input_ids
    outputs = encoder(ms.Tensor([ids], ms.int32), output_hidden_states=True, return_dict=True)
    states = outputs.hidden_states[-2] if xl else outputs.last_hidden_state
    return states.asnumpy()[0], next(iter(outputs.values())).asnumpy()[0]
