"""What formats write differently, in one form: ids, labels and whole numbers; and texts that no file can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from producer.requests.messages import got
from producer.requests.rows import FIELDS

Broken: TypeAlias = tuple[str | None, str]
"""A field, and the rule that it breaks."""

_WHOLE_NUMBERS = (
    "num_images_per_prompt",
    "seed",
    "num_inference_steps",
    "height",
    "width",
    "class_label",
    "max_windows",
)
_NUMBERS = (*_WHOLE_NUMBERS, "guidance_scale", "guidance_rescale", "eta")
_WHOLE_WITHIN = {
    "scheduler": ("steps_offset", "num_train_timesteps"),
    "interpolate": ("seeds", "frames"),
    "trace": ("steps", "frames"),
}
_EXACT = 2**53
"""From here on floating-point numbers skip whole ones: a seed that was one has lost digits."""
_LONGEST = 10**100
_POINT_ZERO = re.compile(r"\s*([+-]?\d{1,20})\.0+\s*")
_DEPTH = 100
_KNOWN = frozenset(FIELDS)


def in_one_form(fields: dict[str, Any], *, typed: bool) -> list[Broken]:
    """Change a row's fields, as any format gives them, to the form in which they are checked; return what has none.

    30.0 is a whole number, because tables with gaps hold floats. An id may be a number. Values of ``metadata`` become
    texts: 7 is ``"7"``, 7.0 ``"7.0"`` and true ``"true"``, as JSON writes them, and null leaves a name out.
    """
    faults: list[Broken] = []
    for name, value in tuple(fields.items()):
        kind = type(value)
        if kind is str and typed:
            continue
        if kind is float or (kind is str and "." in value):
            if name in _WHOLE_NUMBERS:
                _set_whole(fields, name, value, faults)
        elif kind is int:
            if name == "custom_id":
                fields[name] = _label(value)
        elif kind is bool:
            if not typed and name in _NUMBERS:  # where it would be taken for 0 or 1
                fields[name] = str(value).lower()
        elif isinstance(value, Mapping) and value:
            fields[name] = _within(name, value)
    return faults


def _within(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a field of names and values in one form."""
    if name == "metadata":
        return {inner: _label(value) for inner, value in given.items() if value is not None}
    whole = _WHOLE_WITHIN.get(name)
    if whole is None:
        return given
    return {inner: _whole(value) if inner in whole else value for inner, value in given.items()}


def _set_whole(fields: dict[str, Any], name: str, value: float | str, faults: list[Broken]) -> None:
    """Turn ``7.0`` into 7, unless digits may have been lost."""
    if isinstance(value, str):
        match = _POINT_ZERO.fullmatch(value)
        whole = int(match[1]) if match else None
    else:
        whole = int(value) if value.is_integer() else None
    if whole is None:
        return
    if abs(whole) < _EXACT:
        fields[name] = whole
        return
    del fields[name]
    rule = f"must be written without a point from 2^53 on, where floating-point numbers lose digits, got {value}"
    faults.append((name, rule))


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if type(value) is float and value.is_integer() and abs(value) < _EXACT else value


def _label(value: Any) -> Any:
    """Return a number or a flag as text; what has no text of its own stays, to be refused."""
    if isinstance(value, bool):
        return "true" if value else "false"
    is_number = (isinstance(value, int) and abs(value) < _LONGEST) or (
        isinstance(value, float) and math.isfinite(value)
    )
    return repr(value) if is_number else value


def take_out_texts(fields: dict[str, Any]) -> list[Broken]:
    """Take out the fields with a text in them, name or value, that has NUL or half a surrogate pair; return the faults.

    Neither UTF-8 nor a checker of types takes half a pair; a prompt is replaced, so that it is not missed as well.
    """
    faults = list(text_faults(fields))
    if not faults:
        return []
    for name, _ in faults:
        del fields[name]
    if any(name == "prompt" for name, _ in faults):
        fields["prompt"] = "any"
    return [(None, f"a field's name {rule}") if _is_bad(name) else (name, rule) for name, rule in faults]


def text_faults(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field with such a text, and the rule that it breaks."""
    for name, value in fields.items():
        kind = type(value)
        if name not in _KNOWN and _is_bad(name):
            yield name, _rule(name)
        elif kind is str:
            # A million requests are asked this: the first two are quick, and enough for most.
            if "\0" in value or not (value.isascii() or _is_unicode(value)):
                yield name, _rule(value)
        elif kind is not int and kind is not float and (found := next(_texts_at_fault(value, 0), None)):
            yield name, _rule(found)


def _texts_at_fault(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts in a value of any shape that no file can hold."""
    if isinstance(value, str):
        if _is_bad(value):
            yield value
    elif depth < _DEPTH:
        if isinstance(value, Mapping):
            for name, item in value.items():
                yield from _texts_at_fault(name, depth)
                yield from _texts_at_fault(item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from _texts_at_fault(item, depth + 1)


def text_rule(text: str) -> str | None:
    """Return the rule that a text breaks which no file can hold, or None if it is in order."""
    return _rule(text) if _is_bad(text) else None


def _is_bad(text: str) -> bool:
    return "\0" in text or not (text.isascii() or _is_unicode(text))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rule(text: str) -> str:
    return f"must {'have no NUL' if chr(0) in text else 'be valid Unicode text'}, got {got(text)}"
