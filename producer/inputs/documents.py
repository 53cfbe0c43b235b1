"""Read requests from JSON that is no object a line: an array of any length, or objects printed with indents."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ddim_core.errors import Fault, InputError
from producer.inputs.jsonl import JSON, RowMaker, reason_of, shortened
from producer.inputs.lines import MAX_LINE_BYTES
from producer.inputs.streams import PIECE_BYTES
from producer.requests.rows import Row

_SPACE = re.compile(r"[ \t\r\n]*")


def read_json(source: str, content: BinaryIO) -> Iterator[Row | Fault]:
    """Yield a row for each object of an array, or of several values one after another; a text is a prompt.

    One element is in memory at a time. What follows a fault of the JSON itself cannot be told apart and is not read.
    """
    maker = RowMaker(source)
    values = _Values(source, content)
    try:
        for number, value in values:
            if isinstance(value, dict):
                yield from maker.rows(number, value)
            elif isinstance(value, str):
                yield Row(source, number, {"prompt": value})
            else:
                got = shortened(json.dumps(value))
                yield Fault(source, number, None, f"an element must be a JSON object or a text, got {got}")
    except InputError as exc:
        yield Fault(source, values.line, None, f"{exc}; the rest was not read")


class _Values:
    """The elements of the arrays of a text, and its values outside of them, each with the line where it begins."""

    def __init__(self, source: str, content: BinaryIO) -> None:
        self._content = content
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._text, self._position, self._is_whole = "", 0, False
        self._in_array, self._expects_comma = False, False
        self.line = 1

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yield line and value; raise InputError where the text is no JSON."""
        while (character := self._next_character()) is not None:
            if not self._in_array and character == "[":
                self._in_array, self._expects_comma = True, False
                self._skip(1)
            elif self._in_array and character == "]":
                self._in_array = False
                self._skip(1)
            elif self._in_array and self._expects_comma:
                self._take_comma(character)
            else:
                yield self.line, self._value()
                self._expects_comma = self._in_array
        if self._in_array:
            raise InputError("the array must end with ], got the end of the input")

    def _take_comma(self, character: str) -> None:
        if character != ",":
            raise InputError(f"elements must be separated by commas, got {character!r}")
        self._skip(1)
        self._expects_comma = False
        if self._next_character() == "]":
            raise InputError("the last element must have no comma after it, got one")

    def _next_character(self) -> str | None:
        """Return the next character that is no white space, which is not taken yet; None at the end."""
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None
            self._skip(match.end() - self._position)
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._fill():
                return None

    def _value(self) -> Any:
        while True:
            try:
                value, end = JSON.raw_decode(self._text, self._position)
            except json.JSONDecodeError as exc:
                if self._fill():
                    continue  # it may go on there
                self.line += self._text.count("\n", self._position, exc.pos)
                got = shortened(self._text[self._position : self._position + 61].split("\n", maxsplit=1)[0])
                raise InputError(f"the input must be JSON, got {exc.msg} in what begins {got!r}") from exc
            except (ValueError, RecursionError) as exc:
                raise InputError(f"the element must be a JSON object, got {reason_of(exc)}") from exc
            if end < len(self._text) or not self._fill():  # a number may go on, too
                self._skip(end - self._position)
                return value

    def _skip(self, count: int) -> None:
        end = self._position + count
        self.line += self._text.count("\n", self._position, end)
        self._position = end

    def _fill(self) -> bool:
        """Read more, unless there is none, or what waits to be decoded is no request any more."""
        waiting = len(self._text) - self._position
        if waiting > MAX_LINE_BYTES:
            raise InputError(f"a request must have at most {MAX_LINE_BYTES // 2**20} MiB, got more")
        if self._is_whole:
            return False
        data = self._content.read(max(PIECE_BYTES, waiting))
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as exc:
            raise InputError(f"the input must be UTF-8 text, got byte 0x{exc.object[exc.start]:02x}") from exc
        self._is_whole = not data
        self._text = self._text[self._position :] + text
        self._position = 0
        return bool(data)
