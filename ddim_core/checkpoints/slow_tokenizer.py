"""A CLIP tokenizer that transformers 5 saved in one file, as the files that the tokenizer of older versions reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddim_core.checkpoints.files import read_json
from ddim_core.errors import CheckpointError

FAST_TOKENIZER = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_END_OF_WORD = "</w>"
"""What CLIP's byte-pair encoding puts behind the last piece of a word."""
_TOKEN_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


def slow_tokenizer_files(folder: Path, name: str) -> dict[str, bytes]:
    """Return ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` of the tokenizer in a checkpoint's folder.

    The vocabulary and the merges are those of its ``tokenizer.json``, so that a text has the same tokens whichever
    version saved it.

    Raises:
        CheckpointError: It is no tokenizer of CLIP's kind.
    """
    saved = read_json(folder, f"{name}/{FAST_TOKENIZER}")
    path = folder / name / FAST_TOKENIZER
    model = saved.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != _END_OF_WORD:
        found = model.get("type") if isinstance(model, dict) else model
        rule = f"must hold byte-pair encoding with end_of_word_suffix {_END_OF_WORD}, as CLIP's has"
        raise CheckpointError(f"{path} {rule}, got {found!r:.80}")
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        raise CheckpointError(
            f"{path} must hold a vocabulary and merges, got {type(vocabulary).__name__} and {type(merges).__name__}"
        )
    config = read_json(folder, f"{name}/{_CONFIG}")
    # Without it, tokens that were added would be split like words.
    added = {"added_tokens_decoder": _added_tokens(saved.get("added_tokens"), path)}
    lines = ["#version: 0.2", *(_merge(merge, path) for merge in merges)]
    return {
        "vocab.json": json.dumps(vocabulary).encode(),
        "merges.txt": ("\n".join(lines) + "\n").encode(),
        _CONFIG: json.dumps({**added, **config}).encode(),
    }


def _merge(merge: Any, path: Path) -> str:
    """Return a merge as a line; versions of the library write it as one text or as two."""
    text = " ".join(merge) if isinstance(merge, list) and all(isinstance(piece, str) for piece in merge) else merge
    if not isinstance(text, str) or len(text.split()) != 2:
        raise CheckpointError(f"every merge in {path} must have two pieces, got {merge!r:.80}")
    return text


def _added_tokens(tokens: Any, path: Path) -> dict[str, dict[str, Any]]:
    try:
        return {
            str(token["id"]): {"content": token["content"], **{flag: bool(token.get(flag)) for flag in _TOKEN_FLAGS}}
            for token in tokens or []
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"added_tokens in {path} must each have an id and a content, got {error!r}") from error
