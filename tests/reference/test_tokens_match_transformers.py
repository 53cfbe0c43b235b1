"""A prompt is counted, and encoded, as transformers' CLIPTokenizer reads it."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddim_core.checkpoints.tokens import clip_tokenizer
from tests.unit.checkpoints.vocabularies import SHAPES, texts, write_fast, write_legacy, write_merged, write_second

pytestmark = pytest.mark.mindspore
FORMS: dict[str, Callable[[Path], Path]] = {
    "shapes": lambda _: SHAPES,
    "second": write_second,
    "legacy": write_legacy,
    "merged": lambda folder: write_merged(folder, 1500),
}


@pytest.fixture(scope="module")
def slow() -> Callable[[Path], Callable[[str], list[int]]]:
    """What reads texts with the tokenizer of a folder as transformers does."""
    tokenizers = pytest.importorskip("transformers")

    def load(folder: Path) -> Callable[[str], list[int]]:
        tokenizer: Any = tokenizers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        assert tokenizer.fix_text is None, "with ftfy installed it reads texts in another way"
        return lambda text: list(tokenizer(text, verbose=False).input_ids)

    return load


@pytest.mark.parametrize("form", FORMS)
def test_texts_of_every_script_have_the_tokens_of_transformers(
    form: str, tmp_path: Path, slow: Callable[[Path], Callable[[str], list[int]]]
) -> None:
    """Accents composed or not, Chinese, emoji, control characters, NUL, apostrophes, marks; in every form of folder."""
    folder = FORMS[form](tmp_path / "tokenizer")
    theirs, ours = slow(folder), clip_tokenizer(folder)
    tokenizer: Any = pytest.importorskip("transformers").CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    assert ours.marks == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    for text in texts(2_000, seed=1, rare=("<style>", "<style> two", "!")):
        assert ours.ids(text) == theirs(text), ascii(text)
        assert ours.count(text) == len(theirs(text)), ascii(text)


@pytest.mark.slow
def test_a_hundred_thousand_texts_have_the_tokens_of_transformers(
    tmp_path: Path, slow: Callable[[Path], Callable[[str], list[int]]]
) -> None:
    """What the quick comparison has no room for."""
    folder = write_merged(tmp_path / "tokenizer", 3000)
    theirs, ours = slow(folder), clip_tokenizer(folder)
    differing = [text for text in texts(100_000, seed=2, longest=12) if ours.ids(text) != theirs(text)]
    assert not differing, ascii(differing[:3])


@pytest.mark.slow
def test_every_character_has_the_tokens_of_transformers(slow: Callable[[Path], Callable[[str], list[int]]]) -> None:
    """Between letters, where it may join or part them; one of each block that is all of a kind."""
    theirs, ours = slow(SHAPES), clip_tokenizer(SHAPES)
    numbers = (number for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000)
    differing = [
        hex(number)
        for number in numbers
        if (number < 0x3400 or number % 16 == 0 or unicodedata.category(chr(number)) not in ("Lo", "Cn", "Co"))
        and ours.ids(f"a{chr(number)}b") != theirs(f"a{chr(number)}b")
    ]
    assert not differing


def test_a_folder_of_transformers_5_has_the_same_tokens(
    tmp_path: Path, slow: Callable[[Path], Callable[[str], list[int]]]
) -> None:
    """It holds the same vocabulary in another file, which the slow tokenizer cannot read."""
    theirs, ours = slow(SHAPES), clip_tokenizer(write_fast(tmp_path / "fast"))
    assert all(ours.ids(text) == theirs(text) for text in texts(500, seed=3))
