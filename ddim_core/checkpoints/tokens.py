"""Texts to the tokens of CLIP's text encoders: one reading of them for who counts prompts and for who encodes them.

The numbers are those of transformers' ``CLIPTokenizer`` where ftfy is not installed (with it, the same text would be
other tokens, and the same request another image): characters that are not printed go, Chinese ones are words, accents
are composed and stay, and words are lower-cased, split by CLIP's own expression, and put together by its merges.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

import regex

from ddim_core.checkpoints.clip_vocabulary import END, START, Vocabulary, read_vocabulary
from ddim_core.checkpoints.text_limits import MARKS

_REMEMBERED, _LONGEST_REMEMBERED = 50_000, 64
_SPECIAL = "|".join(map(re.escape, (START, END)))
_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"
_WORD = regex.compile(rf"{_SPECIAL}|{_ENDINGS}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE)
_ASCII_WORD = re.compile(rf"{_SPECIAL}|{_ENDINGS}|[a-z]+|[0-9]|[^\sa-z0-9]+")
"""The same for lower-cased ASCII, at a third of the time."""
_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_SIGMA, _LAST_SIGMA = "\u03c3", "\u03c2"
"""The same letter, which looks different at the end of a word."""
_STEPS_BACK = 64


class _Cleaned(dict[int, "int | str | None"]):
    """What a character becomes before words are told apart, for ``str.translate``; learnt as characters come."""

    def __missing__(self, number: int) -> int | str | None:
        character, became = chr(number), number  # type: str, int | str | None
        category = unicodedata.category(character)
        if category == "Zs" or character in "\t\n\r":
            became = " "
        elif number == 0xFFFD or category.startswith("C"):
            became = None
        elif any(first <= number <= last for first, last in _CHINESE):
            became = f" {character} "
        self[number] = became
        return became


_CLEANED = _Cleaned()


def _printed(number: int) -> str:
    """Return the character that stands for a byte in a vocabulary: itself where it is printed, else one from U+0100."""
    hidden = [*range(33), *range(127, 161), 173]
    return chr(256 + hidden.index(number)) if number in hidden else chr(number)


PRINTED = {number: _printed(number) for number in range(256)}
"""Of each byte, as vocabularies write it."""


class _Remembered(dict[str, tuple[int, ...]]):
    """The tokens of what stands between spaces, of which a million prompts have little that is new."""

    def __init__(self, read: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> tuple[int, ...]:
        tokens = tuple(chain.from_iterable(map(self._read, _words_of(text))))
        if len(self) >= _REMEMBERED:
            self.clear()
        if len(text) <= _LONGEST_REMEMBERED:
            self[text] = tokens
        return tokens


class ClipTokenizer:
    """Makes texts into the numbers of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Read texts with this vocabulary."""
        self._vocabulary = vocabulary
        longest_first = sorted(vocabulary.added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._read = lru_cache(_REMEMBERED)(self._tokens_of)
        self._remembered = _Remembered(self._read)

    @property
    def marks(self) -> tuple[int, int, int]:
        """What stands before a text, after it, and what fills it up to a text encoder's length."""
        return self._vocabulary.start, self._vocabulary.end, self._vocabulary.padding

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text, with the marks of its start and end."""
        return [self._vocabulary.start, *chain.from_iterable(self._tokens(text)), self._vocabulary.end]

    def count(self, text: str) -> int:
        """Return how many tokens a text has, both marks among them."""
        return sum(map(len, self._tokens(text))) + MARKS

    def seen(self, text: str, limit: int) -> str:
        """Return as much of a text, from its beginning, as its first ``limit`` tokens hold, the end's mark among them.

        It ends within a word where the tokens do, and before a character of which they hold only some bytes. Its own
        tokens are the same, but for those of a last word that was cut: a word's end is part of its last token.
        """
        room, seen = limit - MARKS, ""
        for word in self._words(text):
            tokens = self._read(word)
            seen += word if len(tokens) <= room else self._beginning(word, room)
            room -= len(tokens)
            if room < 0:
                return self._longest_within(text, seen)
        return text

    def _tokens(self, text: str) -> Iterator[tuple[int, ...]]:
        """Yield the tokens of what stands between spaces, which nothing beyond them changes, and of added tokens."""
        for number, piece in enumerate(self._added.split(text)):
            if number % 2:
                yield (self._vocabulary.added[piece],)
            else:
                yield from map(self._remembered.__getitem__, piece.split(" "))

    def _words(self, text: str) -> Iterator[str]:
        """Yield the words of a text, in which nothing is left to be cleaned; tokens that were added are words, too."""
        for number, piece in enumerate(self._added.split(text)):
            yield from (piece,) if number % 2 else _words_of(piece)

    def _tokens_of(self, word: str) -> tuple[int, ...]:
        added, ids, unknown = self._vocabulary.added, self._vocabulary.ids, self._vocabulary.unknown
        if word in added:
            return (added[word],)
        if word in (START, END):  # CLIP's expression takes them for words even where they are none of its tokens
            return (ids.get(word, unknown),)
        pieces = self._vocabulary.bpe.tokenize(word.encode().decode("latin-1").translate(PRINTED))
        return tuple(added.get(piece.value, piece.id) for piece in pieces)

    def _beginning(self, word: str, count: int) -> str:
        """Return what the first tokens of a word hold, without a character that is not whole."""
        written = word.encode().decode("latin-1").translate(PRINTED)
        pieces = self._vocabulary.bpe.tokenize(written)[:count]
        size = len(written.encode()[: pieces[-1].offsets[1]].decode()) if pieces else 0
        return word.encode()[:size].decode(errors="ignore")

    def _longest_within(self, text: str, seen: str) -> str:
        """Return the longest beginning of a text whose words are a beginning of what was seen."""

        def read(length: int) -> bytes:
            return _joined(self._words(text[:length]))

        held = _joined([seen])
        within = bisect_right(range(len(text) + 1), len(held), key=lambda length: len(read(length))) - 1
        # Shorter ones too: an accent that follows its letter makes another letter of it.
        lengths = (each for each in range(within, max(within - _STEPS_BACK, 0), -1) if held.startswith(read(each)))
        longest = next(lengths, 0)
        size = len(read(longest))
        return text[: bisect_left(range(longest), size, key=lambda length: len(read(length)))]


def _words_of(text: str) -> list[str]:
    """Return the words of a text without added tokens."""
    if text.isascii() and text.isprintable():
        return _ASCII_WORD.findall(text.lower())
    cleaned = unicodedata.normalize("NFC", text.translate(_CLEANED))
    return _WORD.findall(" ".join(word.lower() for word in cleaned.split()))  # type: ignore[no-any-return]


def _joined(words: Iterable[str]) -> bytes:
    return "".join(words).replace(_LAST_SIGMA, _SIGMA).encode()


def clip_tokenizer(folder: Path) -> ClipTokenizer:
    """Return the tokenizer in a folder of a checkpoint, whether transformers 4 saved it or transformers 5.

    Raises:
        CheckpointError: A file is missing, or not what it must be.
    """
    return ClipTokenizer(read_vocabulary(folder))
