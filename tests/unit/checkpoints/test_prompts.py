"""How long a prompt is to text encoders, what they see of it, and in how many windows they see all of it."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints import describe, resolve
from ddim_core.checkpoints.prompts import PromptReader, PromptSize, prompt_reader
from ddim_core.checkpoints.tokens import PRINTED, clip_tokenizer
from ddim_core.errors import CheckpointError
from tests.unit.checkpoints.vocabularies import SHAPES, shapes, texts, write_fast, write_legacy, write_second

TOKENIZER = shapes()
PIECES = {number: piece for piece, number in json.loads((SHAPES / "vocab.json").read_text(encoding="utf-8")).items()}
BYTES = {letter: number for number, letter in PRINTED.items()}
CAPTION = "a large red circle on a white background"
QUICK = settings(derandomize=True, deadline=None, max_examples=300)
WORDS = st.lists(
    st.sampled_from(
        ["a ", "Large", " red circle, ", "blue-ish", "it's", " café", "NFD e\u0301 ", "圖畫", "1999", "!?", "\n"]
    )
).map("".join)
ANYTHING = st.text(max_size=60) | WORDS


def bytes_of(ids: list[int]) -> bytes:
    """Return what tokens hold by the vocabulary's own file, with both sigmas as one."""
    pieces = (PIECES[number].removesuffix("</w>") for number in ids)
    held = b"".join(bytes(map(BYTES.__getitem__, piece)) for piece in pieces)
    return held.replace("\u03c2".encode(), "\u03c3".encode())


def test_a_prompt_is_counted_with_the_marks_of_its_start_and_end() -> None:
    """As transformers counts it, and as a limit of 24 or 77 is meant."""
    assert TOKENIZER.count("") == 2
    ids = TOKENIZER.ids(CAPTION)
    assert (ids[0], ids[-1], len(ids)) == (625, 626, TOKENIZER.count(CAPTION))


@QUICK
@given(ANYTHING)
def test_the_count_is_that_of_the_tokens(text: str) -> None:
    """Who counts and who encodes read a prompt in one way."""
    assert TOKENIZER.count(text) == len(TOKENIZER.ids(text))


@QUICK
@given(st.text(st.characters(max_codepoint=127), max_size=80), st.integers(3, 40))
def test_a_text_of_which_the_length_says_that_it_fits_does(text: str, limit: int) -> None:
    """A token has a character of ASCII or more, so most prompts need not be read at all."""
    reader = PromptReader([(TOKENIZER, limit)])
    if reader.fits(text):
        assert not reader.size(text).is_long and TOKENIZER.count(text) <= limit


def test_a_text_that_is_not_ascii_is_always_read() -> None:
    """One character may be twelve bytes once it is composed, and each byte may be a token."""
    reader = PromptReader([(TOKENIZER, 12)])
    assert not reader.fits("\U0001d160") and reader.size("\U0001d160").tokens == 14


@QUICK
@given(ANYTHING, st.integers(3, 30))
def test_what_is_seen_is_the_beginning_of_the_text_that_the_first_tokens_hold(text: str, limit: int) -> None:
    """Nothing is in it that was not seen; without accents after letters, no more than half a letter is missing."""
    seen = TOKENIZER.seen(text, limit)
    held, told = map(bytes_of, (TOKENIZER.ids(text)[1:-1][: limit - 2], TOKENIZER.ids(seen)[1:-1]))
    assert text.startswith(seen) and held.startswith(told)
    if TOKENIZER.count(text) <= limit:
        assert seen == text
    elif unicodedata.normalize("NFD", text) == text == unicodedata.normalize("NFC", text):
        assert len(held) - len(told) <= 3


@QUICK
@given(WORDS, st.integers(3, 30))
def test_what_is_seen_has_the_same_tokens_again_unless_they_end_within_a_word(text: str, limit: int) -> None:
    """The end of a word is part of its last token, so no text has the tokens of a word without its end."""
    seen, kept = TOKENIZER.seen(text, limit), TOKENIZER.ids(text)[1 : limit - 1]
    again = TOKENIZER.ids(seen)[1:-1]
    if TOKENIZER.count(text) <= limit or PIECES[kept[-1]].endswith("</w>"):
        assert again == (kept if TOKENIZER.count(text) > limit else TOKENIZER.ids(text)[1:-1])
    else:
        whole = max((place for place, number in enumerate(kept, 1) if PIECES[number].endswith("</w>")), default=0)
        assert again[:whole] == kept[:whole]


@pytest.mark.parametrize(
    ("text", "limit", "seen"),
    [
        (f"{CAPTION}, highly detailed", 10, CAPTION),
        (f"{CAPTION} , highly detailed", 10, CAPTION),
        (CAPTION.upper(), 6, "A LARGE RED CIRCLE"),
        ("a\u3000large\tred\n\ncircle and a star", 6, "a\u3000large\tred\n\ncircle"),
        ("e\u0301e\u0301e\u0301", 5, "e\u0301"),  # composed, it is one letter of two bytes
        ("ΟΔΥΣΣΕΑΣ", 10, "ΟΔΥΣ"),  # the first of two sigmas is none at a word's end
        ("\U0001f469\u200d\U0001f680 in space", 5, ""),  # three of four bytes are no character
        ("\U0001f469\u200d\U0001f680 in space", 9, "\U0001f469"),
        ("<|endoftext|> a", 3, "<|endoftext|>"),
    ],
)
def test_what_is_seen_is_a_slice_of_the_text_as_it_was_written(text: str, limit: int, seen: str) -> None:
    """Capitals, spaces and accents stay as they were; what is not whole is left out."""
    assert TOKENIZER.seen(text, limit) == seen


@pytest.mark.parametrize(
    ("tokens", "windows"), [(2, 1), (24, 1), (25, 2), (2 + 2 * 22, 2), (2 + 2 * 22 + 1, 3), (2 + 4 * 22, 4)]
)
def test_windows_have_marks_of_their_own(tokens: int, windows: int) -> None:
    """A window of 24 tokens has room for 22 of the prompt's."""
    text = "x " * (tokens - 2)
    size = PromptReader([(TOKENIZER, 24)]).size(text)
    assert size == PromptSize(tokens, 24, windows) and size.is_long == (windows > 1)


def test_the_tightest_of_several_text_encoders_decides(tmp_path: Path) -> None:
    """What is one token to the first may be many to the second, and a limit may be shorter."""
    second = clip_tokenizer(write_legacy(tmp_path / "second"))
    text = "a star in <style>" + "<style>" * 10
    assert second.count(text) < 24 < TOKENIZER.count(text)
    reader = PromptReader([(second, 24), (TOKENIZER, 24)])
    assert reader.size(text).tokens == TOKENIZER.count(text)
    assert reader.used(text) == TOKENIZER.seen(text, 24) != text
    shorter = PromptReader([(TOKENIZER, 24), (TOKENIZER, 12)])
    assert shorter.size(f"{CAPTION} and a star").limit == 12
    assert shorter.used(f"{CAPTION} and a star") == TOKENIZER.seen(f"{CAPTION} and a star", 12)


@pytest.mark.parametrize("write", [write_fast, write_legacy])
def test_every_form_of_a_tokenizers_folder_is_read(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """The same words are the same tokens in what transformers 4 and 5 save; the old form adds tokens of its own."""
    tokenizer = clip_tokenizer(write(tmp_path / "tokenizer"))
    assert all(tokenizer.ids(text) == TOKENIZER.ids(text) for text in texts(200, seed=5) if "!" not in text)
    if write is write_legacy:
        assert tokenizer.ids("a <style> two<style>")[1:-1] == [*TOKENIZER.ids("a")[1:-1], 701, 700]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", "#version: 0.2\na b c\n", r"a merge must be two pieces, got \['a', 'b', 'c'\] in "),
        ("merges.txt", "#version: 0.2\nzz yy\n", "merges must join pieces of the vocabulary, got .* in "),
        ("merges.txt", b"\xff\xfe", r"merges\.txt must be text in UTF-8, got "),
        ("vocab.json", "[]", r"vocab\.json must hold a JSON object, got list"),
        ("vocab.json", '{"a": "b"}', "the vocabulary must be an object of pieces and their numbers in "),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_named(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    """Before a run is planned for a checkpoint that no worker could load."""
    folder = write_second(tmp_path / "tokenizer")
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=message):
        clip_tokenizer(folder)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """In the words of every other file that is missing."""
    with pytest.raises(CheckpointError, match=r"a checkpoint must hold merges\.txt, got none in "):
        clip_tokenizer(tmp_path)


def test_the_packaged_checkpoint_takes_24_tokens() -> None:
    """Its limit is part of what a folder says of itself; one that takes no prompts has none, and reads none."""
    info = describe(resolve("shapes"))
    assert (info.text_limits, info.token_limit) == ({"tokenizer": 24}, 24)
    reader = prompt_reader(info)
    assert reader is not None and reader.size(CAPTION).limit == 24
    silent = dataclasses.replace(info, text_limits={})
    assert silent.token_limit is None and prompt_reader(silent) is None


def test_a_word_of_a_whole_page_is_counted() -> None:
    """Nothing is quadratic: ten thousand letters of one word, accents on one letter, or marks in a row."""
    for text in ("x" * 10_000, "e" + "\u0301" * 9_999, "<|endoftext|>" * 700, "字" * 10_000):
        size = PromptReader([(TOKENIZER, 24)])
        assert size.size(text).is_long and text.startswith(size.used(text))
