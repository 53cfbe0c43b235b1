"""How many tokens the text encoders of a checkpoint take, as its configurations say."""

from __future__ import annotations

from pathlib import Path

from ddim_core.checkpoints.files import read_json
from ddim_core.checkpoints.pipelines import Pipeline
from ddim_core.errors import CheckpointError

MARKS = 2
"""Tokens that every text has beside its own: one before it and one after it."""
_CLIP_TOKENS = 77
"""Of a text encoder whose configuration does not say."""


def text_limits(folder: Path, pipeline: Pipeline) -> dict[str, int]:
    """Return what each text encoder takes, both marks among it, by the folder of its tokenizer.

    The shorter counts of what the tokenizer's configuration says and the text encoder's.

    Raises:
        CheckpointError: A configuration is missing, or its limit is none.
    """
    return {name: _text_limit(folder, name) for name in pipeline.tokenizers}


def _text_limit(folder: Path, tokenizer: str) -> int:
    encoder = tokenizer.replace("tokenizer", "text_encoder")
    said, config = read_json(folder, f"{tokenizer}/tokenizer_config.json"), read_json(folder, f"{encoder}/config.json")
    if isinstance(text := config.get("text_config"), dict) and config.get("model_type") == "clip":
        config = text  # of a whole CLIP, of which the text encoder is a part
    limits = {
        f"max_position_embeddings in {encoder}/config.json": config.get("max_position_embeddings", _CLIP_TOKENS),
        f"model_max_length in {tokenizer}/tokenizer_config.json": said.get("model_max_length", said.get("max_len")),
    }
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for name, limit in given.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= MARKS:
            raise CheckpointError(f"{name} must be a number of tokens above {MARKS}, got {limit!r:.80} in {folder}")
    return int(min(given.values(), default=_CLIP_TOKENS))
