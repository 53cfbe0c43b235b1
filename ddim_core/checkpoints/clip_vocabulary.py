"""The files of a CLIP tokenizer: its vocabulary, its merges, and the tokens that texts are split at before all else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers.models import BPE

from ddim_core.checkpoints.files import read_json
from ddim_core.errors import CheckpointError

START, END = "<|startoftext|>", "<|endoftext|>"

_CONFIG, _FAST = "tokenizer_config.json", "tokenizer.json"
_MOST_MERGES = 49_152 - 256 - 2
"""``CLIPTokenizer`` reads no more of them, which is as many as CLIP's own vocabulary has."""
_DEFAULTS = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What turns words into numbers."""

    bpe: BPE
    ids: Mapping[str, int]
    """Of every piece of a word, without those that were added."""
    added: Mapping[str, int]
    """Of tokens that stand for themselves wherever a text has them: ``!`` in Stable Diffusion XL's second tokenizer."""
    start: int
    end: int
    padding: int
    unknown: int


def read_vocabulary(folder: Path) -> Vocabulary:
    """Return the vocabulary of a tokenizer's folder, of ``vocab.json`` and ``merges.txt`` or of ``tokenizer.json``.

    What counts as an added token follows ``CLIPTokenizer.from_pretrained`` of transformers 4.57.

    Raises:
        CheckpointError: A file is missing, or not what it must be.
    """
    ids, merges = _pieces(folder)
    special = _special_tokens(folder)
    added = _added_tokens(folder, ids, special)
    known = {**ids, **added}
    try:
        bpe = BPE(vocab=ids, merges=merges, unk_token=special["unk_token"], end_of_word_suffix="</w>")
        marks = [known[special[name]] for name in ("bos_token", "eos_token", "pad_token", "unk_token")]
    except Exception as exc:  # what the library raises is a plain Exception
        raise CheckpointError(f"merges must join pieces of the vocabulary, got {exc} in {folder}") from exc
    return Vocabulary(bpe, ids, added, *marks)


def _pieces(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    slow = ("vocab.json", "merges.txt")
    if all((folder / name).is_file() for name in slow) or not (folder / _FAST).is_file():
        lines = _read_text(folder / "merges.txt").strip().split("\n")[1:]  # the first one names a version
        return _numbers(read_json(folder, "vocab.json"), folder), _pairs((line.split() for line in lines), folder)
    model = read_json(folder, _FAST).get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else model
        raise CheckpointError(f"model of {folder / _FAST} must be a BPE, as CLIP's is, got {kind!r:.80}")
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise CheckpointError(f"merges of {folder / _FAST} must be a list, got {merges!r:.80}")
    pairs = (merge.split() if isinstance(merge, str) else merge for merge in merges)
    return _numbers(model.get("vocab"), folder), _pairs(pairs, folder)


def _numbers(vocab: Any, folder: Path) -> dict[str, int]:
    if not isinstance(vocab, dict) or not all(isinstance(number, int) for number in vocab.values()):
        raise CheckpointError(f"the vocabulary must be an object of pieces and their numbers in {folder}")
    return vocab


def _pairs(pairs: Iterable[Any], folder: Path) -> list[tuple[str, str]]:
    ranks: dict[tuple[str, str], None] = {}
    for pair in islice(pairs, _MOST_MERGES):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(piece, str) for piece in pair):
            raise CheckpointError(f"a merge must be two pieces, got {pair!r:.80} in {folder}")
        ranks.pop((pair[0], pair[1]), None)  # of one that is there twice the later place counts
        ranks[pair[0], pair[1]] = None
    return list(ranks)


def _special_tokens(folder: Path) -> dict[str, str]:
    """Return the contents of the tokens that have a part in every text, by their names."""
    config = read_json(folder, _CONFIG)
    if "added_tokens_decoder" not in config and (folder / "special_tokens_map.json").is_file():
        config |= read_json(folder, "special_tokens_map.json")
    found = {name: _content(config[name]) for name in _SPECIAL if config.get(name) is not None}
    for number, token in enumerate(config.get("additional_special_tokens") or ()):
        found[f"additional_{number}"] = _content(token)
    return {**_DEFAULTS, **found}


def _added_tokens(folder: Path, ids: Mapping[str, int], special: Mapping[str, str]) -> dict[str, int]:
    added = dict(_listed(folder))
    for content in special.values():
        if content and content not in added:
            added[content] = ids.get(content, len(ids.keys() | added.keys()))
    return added


def _listed(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the tokens that the folder says were added, and their numbers."""
    config = read_json(folder, _CONFIG)
    if "added_tokens_decoder" in config:
        for number, token in config["added_tokens_decoder"].items():
            yield _content(token), int(number)
        return
    if (folder / "added_tokens.json").is_file():
        yield from read_json(folder, "added_tokens.json").items()
    if (folder / _FAST).is_file():
        for token in read_json(folder, _FAST).get("added_tokens") or ():
            yield _content(token), token["id"]


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"a checkpoint must hold {path.name}, got none in {path.parent}") from None
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path} must be text in UTF-8, got {exc}") from exc
