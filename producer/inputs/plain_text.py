"""Read prompts from plain text, one a line, and refuse what would be a prompt by mistake."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from ddim_core.errors import Fault
from producer.inputs.content import looks_json
from producer.inputs.lines import Lines, decoded
from producer.requests.rows import Row

# Ends of lines that are no line feed, marks of other files, and what no prompt holds; tabs do stand in some.
_NO_PART = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
_NAMES = {"\r": "a carriage return", "\x0b": "a vertical tab", "\x0c": "a form feed", "\x85": "a next-line character"}
_DOUBLY_ENCODED_MARK = "\u00ef\u00bb\u00bf"


def read_text(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank: the line is the prompt."""
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
        elif prompt := text.strip():
            rule = _rule(prompt)
            yield Row(source, number, {"prompt": prompt}) if rule is None else Fault(source, number, None, rule)


def _rule(prompt: str) -> str | None:
    """Return the rule that a line breaks which is not to be taken for a prompt."""
    if not prompt.isprintable() and (match := _NO_PART.search(prompt)):
        character = match[0]
        name = _NAMES.get(character) or unicodedata.name(character, "a control character").lower()
        return (
            f"the line must be one prompt, got {name} (U+{ord(character):04X}) at column {match.start() + 1}; "
            "if lines end there, end them with a line feed; if it belongs to a prompt, write JSON lines"
        )
    if prompt.startswith(_DOUBLY_ENCODED_MARK):
        return "the line must be UTF-8 text, got a byte-order mark that was encoded twice; save the text again as UTF-8"
    if looks_json(prompt):
        return "the line must be a prompt as those before it, got what looks like JSON; put it into a file of its own"
    return None
