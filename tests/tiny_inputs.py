"""What pipelines are given in the place of a prompt: embeddings of random numbers, where encoders would be large."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from tests.tiny_networks import SIDE_PX


def values(*shape: int, seed: int) -> Any:
    """Return a tensor of normal random numbers."""
    import mindspore as ms

    return ms.Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def embeds() -> Any:
    return values(1, 8, 32, seed=1)


def other_embeds() -> Any:
    return values(1, 8, 32, seed=2)


def _mask() -> Any:
    import mindspore as ms

    return ms.mint.ones((1, 8), dtype=ms.int64)


def frames() -> list[Image.Image]:
    """Return the two pictures of a film."""
    rng = np.random.default_rng(7)
    return [Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)) for _ in range(2)]


T5 = {
    "prompt": None,
    "negative_prompt": None,
    "prompt_embeds": embeds,
    "prompt_attention_mask": _mask,
    "negative_prompt_embeds": other_embeds,
    "negative_prompt_attention_mask": _mask,
    "use_resolution_binning": False,
}
CHATGLM = {
    "prompt": None,
    "prompt_embeds": lambda: values(1, 8, 64, seed=1),
    "negative_prompt_embeds": lambda: values(1, 8, 64, seed=2),
    "pooled_prompt_embeds": lambda: values(1, 32, seed=3),
    "negative_prompt": None,
    "negative_pooled_prompt_embeds": lambda: values(1, 32, seed=4),
}
CLAP = {
    "prompt": None,
    "prompt_embeds": lambda: values(1, 32, seed=1),
    "negative_prompt_embeds": lambda: values(1, 32, seed=2),
}
GPT2 = {
    "prompt": None,
    "prompt_embeds": embeds,
    "attention_mask": _mask,
    "negative_prompt_embeds": other_embeds,
    "negative_attention_mask": _mask,
    "generated_prompt_embeds": lambda: values(1, 4, 32, seed=3),
    "negative_generated_prompt_embeds": lambda: values(1, 4, 32, seed=4),
}
IMAGE_EMBEDS = {
    "image_embeds": lambda: values(1, 32, seed=1),
    "negative_image_embeds": lambda: values(1, 32, seed=2),
}


class Hidden:
    """The place of a text encoder that is asked for something even where embeddings are given: random hidden states."""

    @property
    def dtype(self) -> Any:
        """What the embeddings of the negative prompt become."""
        return values(1, seed=1).dtype

    @property
    def text_model(self) -> Hidden:
        """The part of CLAP that MusicLDM asks for its dtype."""
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Return what ChatGLM does: the states of the last two layers, [T, 1, D], in the third place."""
        return None, None, [values(8, 1, 64, seed=1), values(8, 1, 32, seed=2)]


def tokens(*_: Any, **__: Any) -> dict[str, Any]:
    """Return tokens for ``Hidden``, which does not look at them."""
    return dict.fromkeys(("input_ids", "attention_mask", "position_ids"), np.ones((1, 8), np.int64))
