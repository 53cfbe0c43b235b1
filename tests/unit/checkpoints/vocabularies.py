"""Tokenizers' folders for tests, in every form that a checkpoint may have them."""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddim_core.checkpoints import resolve
from ddim_core.checkpoints.tokens import ClipTokenizer, clip_tokenizer

SHAPES = resolve("shapes") / "tokenizer"
_SPECIAL = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": True}
_CONFIG: dict[str, Any] = json.loads((SHAPES / "tokenizer_config.json").read_text())
PAIRS = (("s", "t"), ("st", "a"), ("sta", "r</w>"), ("r", "e"), ("re", "d</w>"), ("!", "!</w>"), ("Ã", "©</w>"))


def shapes() -> ClipTokenizer:
    """Return the packaged checkpoint's own."""
    return clip_tokenizer(SHAPES)


def write_second(folder: Path) -> Path:
    """Write one that pads with ``!``, as the second tokenizer of Stable Diffusion XL does: it is a token of its own."""
    shutil.copytree(SHAPES, folder)
    padding = {**_SPECIAL, "content": "!"}
    added = {"0": padding, **_CONFIG["added_tokens_decoder"]}
    _write(folder, "tokenizer_config.json", {**_CONFIG, "added_tokens_decoder": added, "pad_token": "!"})
    return folder


def write_legacy(folder: Path) -> Path:
    """Write one as it was saved before there was an ``added_tokens_decoder``, that of Stable Diffusion 1.5 for one."""
    shutil.copytree(SHAPES, folder)
    kept = {name: _CONFIG[name] for name in ("model_max_length", "errors", "tokenizer_class")}
    start = {"__type": "AddedToken", **{name: _SPECIAL[name] for name in ("lstrip", "rstrip", "normalized")}}
    bos = {**start, "single_word": False, "content": "<|startoftext|>"}
    _write(folder, "tokenizer_config.json", {**kept, "bos_token": bos, "do_lower_case": True, "pad_token": "!"})
    _write(folder, "added_tokens.json", {"<style>": 700, "<style> two": 701})
    return folder


def write_fast(folder: Path) -> Path:
    """Write one as transformers 5 does: all in ``tokenizer.json``, and a configuration."""
    vocab, merges = json.loads((SHAPES / "vocab.json").read_text()), (SHAPES / "merges.txt").read_text()
    pairs = [line.split() for line in merges.strip().split("\n")[1:]]
    added = [{"id": int(number), **token} for number, token in _CONFIG["added_tokens_decoder"].items()]
    folder.mkdir()
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocab, "merges": pairs}
    _write(folder, "tokenizer.json", {"version": "1.0", "added_tokens": added, "model": model})
    config = {name: value for name, value in _CONFIG.items() if name != "added_tokens_decoder"}
    _write(folder, "tokenizer_config.json", config)
    return folder


def write_merged(folder: Path, count: int, seed: int = 0) -> Path:
    """Write one with so many merges as come of random words, which has longer pieces than the packaged one."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    draw = random.Random(seed)
    syllables = ["".join(draw.choices("bcdfglmnprst", k=1) + draw.choices("aeiouéüñ", k=1)) for _ in range(60)]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(4000)]
    trained = Tokenizer(BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = BpeTrainer(
        vocab_size=count + 600,
        show_progress=False,
        end_of_word_suffix="</w>",
        initial_alphabet=ByteLevel.alphabet(),
    )
    trained.train_from_iterator([*words, *string.punctuation, *string.digits], trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = [piece for symbol in sorted(ByteLevel.alphabet()) for piece in (symbol, f"{symbol}</w>")]
    pieces = list(dict.fromkeys([*pieces, *model["vocab"], "<|startoftext|>", "<|endoftext|>"]))
    vocab = {piece: number for number, piece in enumerate(pieces)}
    folder.mkdir()
    _write(folder, "vocab.json", vocab)
    pairs = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
    _write(folder, "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    return folder


def texts(count: int, seed: int, rare: Sequence[str] = (), longest: int = 30) -> list[str]:
    """Return texts of every script: words, accents composed or not, emoji, what is not printed, CLIP's own marks."""
    draw = random.Random(seed)
    blocks = [range(0x20, 0x7F)] * 4 + [range(first, last) for first, last in _BLOCKS]

    def piece() -> str:
        kind = draw.random()
        if kind < 0.3:
            return draw.choice(_WORDS)
        if kind < 0.45:
            return draw.choice([*_ODD, *rare])
        return chr(draw.choice(draw.choice(blocks)))

    return ["".join(piece() for _ in range(draw.randint(0, longest))) for _ in range(count)]


_WORDS = ("a ", "large ", "red circle", "STAR", "café", "naïve ", "it's ", "don't", "1234", "...", "!!!", "Straße ")
_ODD = (
    *("<|endoftext|>", "<|startoftext|>", "<|ENDOFTEXT|>", "'s", "'S", "'\u017f", "'RE", "\u2019t", " ", "  ", "\n"),
    *("\t", "\x00", "\x0b", "\x1c", "\x85", "\u2028", "\u200d", "\ufe0f", "\ufffd", "\u3000", "\u00ad", "\u0301"),
    *("\u03a3", "\u0130", "\u1e9e", "\u0958", "\ud7a3", "\U0001f469\u200d\U0001f680", "\U0001f1eb\U0001f1f7", "x" * 80),
)
_BLOCKS = (
    *((0x00, 0x250), (0x250, 0x400), (0x300, 0x370), (0x370, 0x500), (0x590, 0x700), (0x900, 0xE00), (0x1100, 0x1200)),
    *((0x1E00, 0x2100), (0x2000, 0x2070), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFB50)),
    *(
        (0x1F300, 0x1FB00),
        (0x1F1E6, 0x1F200),
        (0xFE00, 0xFE10),
        (0x20000, 0x20100),
        (0x2B820, 0x2B920),
        (0xE000, 0xE010),
    ),
)


def _write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
