"""Say in plain words what is wrong with a field: ``must be <rule>, got <value>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from ddim_core.contracts.kinds import SPECIAL
from ddim_core.contracts.request import Request
from ddim_core.schedule.config import PARAMETER_NAMES
from producer.requests.rows import FIELDS
from producer.requests.suggestions import did_you_mean

_RULES = {
    "missing": "must be given",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "literal_error": "must be {expected}",
    "dict_type": "must be an object of names and values",
    "model_type": "must be an object of names and values",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} values",
    "too_long": "must have at most {max_length} values",
}
_BY_ROWS = "; write a table a row a line (pandas: to_json(orient='records', lines=True))"


def rule_of(error: ErrorDetails) -> tuple[str | None, str]:
    """Return the field and the broken rule of one of pydantic's errors about a ``Request``."""
    field = ".".join(str(part) for part in error["loc"] if part != "[key]") or None
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return _unknown(field or "")
    if error["type"] == "value_error":
        return schedule_rule(str(context["error"]), field)
    if error["type"] == "missing":
        return field, _RULES["missing"]
    rule = _RULES.get(error["type"], f"must be valid ({error['msg']})").format(**context)
    if error["loc"][-1:] == ("[key]",):
        return str(error["loc"][0]), f"must have texts as names, got {got(error['input'])}"
    if error["type"] == "string_type" and field and field.startswith("metadata."):
        rule = "must be text, a number or a flag"
    remedy = _BY_ROWS if field == "prompt" and isinstance(error["input"], dict | list) else ""
    return field, f"{rule}, got {got(error['input'])}{remedy}"


def _unknown(field: str) -> tuple[str | None, str]:
    """Return the rule that a field breaks by being none: of a request, or of what one of its fields holds."""
    outer, dot, inner = field.partition(".")
    for special in SPECIAL:
        if dot and special.kind == outer:
            known = tuple(special.model_fields)
            rule = f"must have no field but {' and '.join(known)}, got {got(inner)}"
            return outer, rule + did_you_mean(inner, known)
    return None, f"a field {known_field(field, FIELDS)}"


def schedule_rule(message: str, field: str | None = None) -> tuple[str | None, str]:
    """Return the field that an error about a scheduler names, and the rest of its message as the rule."""
    name, _, rule = message.partition(" ")
    if name == "scheduler":  # parameters must be among ..., got ...
        unknown = rule.rpartition("got ")[2].split(", ")
        return name, rule + next(filter(None, (did_you_mean(each, PARAMETER_NAMES) for each in unknown)), "")
    if name in Request.model_fields:
        return name, rule
    if name.split("[")[0] in PARAMETER_NAMES:
        return f"scheduler.{name}", rule
    return field, message


def known_field(name: Any, known: Sequence[str]) -> str:
    """Return the rule that ``name`` breaks by being none of ``known``, with the one that may have been meant."""
    return f"must be one of {', '.join(known)}, got {got(name)}{did_you_mean(str(name), known)}"


def got(value: Any) -> str:
    """Return a value as a person may recognise it, cut to 80 characters."""
    try:
        text = repr(value)
    except Exception:  # of a class of the caller's, or a number of more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
