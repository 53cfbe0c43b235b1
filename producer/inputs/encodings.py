"""Text as UTF-8 with line feeds, whatever its byte-order mark says and however an old Mac ended its lines."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import replace

from ddim_core.errors import InputError
from producer.inputs.heads import Head, buffered, headed, pieces_of
from producer.inputs.streams import Pieces

UTF8_MARK = codecs.BOM_UTF8
# UTF-32's begins like UTF-16's; a UTF-16 text that begins with NUL is none of ours.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WIDTHS = {"utf-32-le": (4, (0,)), "utf-32-be": (4, (3,)), "utf-16-le": (2, (0,)), "utf-16-be": (2, (1,))}
"""Bytes of a character, and which of them are not NUL in nearly all Latin text."""
_FEW = 8
"""Bytes that are too few to tell."""


def as_utf8(content: io.BufferedReader[Pieces]) -> tuple[Head, io.BufferedReader[Pieces]]:
    """Return text as UTF-8 whose lines end in line feeds, and how it begins.

    UTF-16 and UTF-32 are read where a byte-order mark says so; a guess might read other characters. Carriage returns
    end lines where there is no line feed.

    Raises:
        InputError: It has NUL at its beginning, as UTF-16 without a mark and what is no text have; the message is what
            it looks like. Reading it: it is not what its mark says, or changes the way in which its lines end.
    """
    head, content = headed(content)
    mark = next((mark for mark in _MARKS if head.data.startswith(mark)), None)
    if mark is not None:
        content.read(len(mark))
        head, content = headed(buffered(_transcoded(content, _MARKS[mark])))
    if b"\0" in head.data:
        raise InputError(_nul_rule(head.data))
    if _ends_in_carriage_returns(head):
        head, content = headed(buffered(_with_line_feeds(content)))
        head = replace(head, was_old_mac=True)
    return head, content


def _transcoded(content: io.BufferedReader[Pieces], codec: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)("strict")
    try:
        for piece in pieces_of(content):
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as exc:
        reason = exc.reason if isinstance(exc, UnicodeDecodeError) else str(exc)
        raise InputError(f"the text must be {codec.upper()} as its byte-order mark says, got {reason} here") from exc


def _nul_rule(data: bytes) -> str:
    """Return what text with NUL is refused with: the encoding that it looks like, or that it is no text.

    An encoding is named only if nearly every character tells it: converted from a wrong one, a text reads otherwise.
    """
    for codec, (width, filled) in _WIDTHS.items():
        whole = data[: len(data) // width * width]
        nul = [whole[i::width].count(0) / max(1, len(whole) // width) for i in range(width)]
        if len(whole) > _FEW and all(share < 0.1 if i in filled else share > 0.8 for i, share in enumerate(nul)):
            name = codec.upper().replace("-LE", "LE").replace("-BE", "BE")  # as iconv calls it
            return (
                f"the text must be UTF-8, or have a byte-order mark, got what looks like {name} without one; "
                f"save it as UTF-8, as by: iconv -f {name} -t UTF-8"
            )
    return (
        "the input must be text, got NUL bytes, as binary data have them, and UTF-16 without a byte-order mark; "
        "save it as UTF-8"
    )


def _ends_in_carriage_returns(head: Head) -> bool:
    """Return whether lines end as on old Macs; a carriage return that the head ends in may belong to a line feed."""
    return b"\n" not in head.data and b"\r" in (head.data if head.is_whole else head.data[:-1])


def _with_line_feeds(content: io.BufferedReader[Pieces]) -> Iterator[bytes]:
    for piece in pieces_of(content):
        before, feed, _ = piece.partition(b"\n")
        yield before.replace(b"\r", b"\n")
        if feed:
            raise InputError("lines must all end alike, got a line feed here after carriage returns without one")
