"""One row, many requests: a prompt with named lists, a sweep over parameters, or both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from ddim_core.errors import Fault, RequestFaults
from producer.requests.messages import got
from producer.requests.one_form import text_faults, text_rule
from producer.requests.rows import LISTS, SWEEP, SWEEP_MODE, Row
from producer.requests.suggestions import did_you_mean, suggested
from producer.requests.sweeps import EXPANSION_LIMIT, Axis, swept
from producer.requests.templates import LIST_NAME, filled, names_in

MODES = ("product", "zip")
TEMPLATES = ("prompt", "negative_prompt")
"""The fields that may have places for lists."""

NAME_SEPARATOR = "-"
"""Between a line's id and a request's number; file names take it, too."""

Lists = Mapping[str, Sequence[str]]


def expanded(row: Row, lists: Lists, separator: str = NAME_SEPARATOR) -> Iterable[Row]:
    """Return the rows that a row stands for: itself, unless it sweeps, or has a prompt with places for lists.

    What varies is first the lists in the order in which the prompt names them, then the sweep's fields in theirs; with
    ``product`` the last one varies fastest. ``lists`` are those of the run; a row's own go before them. The rows have
    the row's id, ``separator`` and a number from 0 as ids.

    Raises:
        RequestFaults: It cannot be told what the row stands for.
    """
    if not lists and not (SWEEP in row.fields or LISTS in row.fields or SWEEP_MODE in row.fields):
        return (row,)
    given = {name: row.fields[name] for name in (SWEEP, SWEEP_MODE, LISTS) if name in row.fields}
    if faults := [row.fault(*fault) for fault in text_faults(given)]:
        raise RequestFaults(faults)
    own = _own_lists(row, faults)
    named, missed = _named(row, {**lists, **own}, faults) if lists or own else ([], set())
    for name in own:
        if name not in named and name not in missed:
            faults.append(row.fault(f"{LISTS}.{name}", f"must have a place in the prompt, as {{{name}}}, got none"))
    filling = [Axis(name, {**lists, **own}[name]) for name in named]
    axes = _sweep(row, faults)
    mode = row.fields.get(SWEEP_MODE, MODES[0])
    if fault := _misfit(row, [*filling, *axes], mode):
        faults.append(fault)
    if faults:
        raise RequestFaults(faults)
    return _members(row, filling, axes, is_template=bool(lists or own), is_zip=mode == "zip", separator=separator)


def list_fault(name: Any, texts: Any) -> str | None:
    """Return the rule that a list of texts breaks, or None if it is one."""
    if not isinstance(name, str) or not LIST_NAME.fullmatch(name):
        return "must have a name of letters, digits, _ and -"
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        return f"must be a list of texts, got {got(texts)}"
    if not texts:
        return "must have at least one text, got none"
    return next((rule for text in texts if (rule := text_rule(text))), None)


def _own_lists(row: Row, faults: list[Fault]) -> Lists:
    lists = row.fields.get(LISTS, {})
    if not isinstance(lists, Mapping):
        faults.append(row.fault(LISTS, f"must be an object of names and lists of texts, got {got(lists)}"))
        return {}
    wrong = {name: rule for name, texts in lists.items() if (rule := list_fault(name, texts))}
    faults += [row.fault(f"{LISTS}.{name}", rule) for name, rule in wrong.items()]
    return {name: texts for name, texts in lists.items() if name not in wrong}


def _named(row: Row, lists: Lists, faults: list[Fault]) -> tuple[list[str], set[str]]:
    """Return the lists that the row's prompts name, each once, in their order, and those that a misspelt name meant.

    Names of no list are one fault of their field.
    """
    named: dict[str, None] = {}
    missed: set[str] = set()
    for field in TEMPLATES:
        template = row.fields.get(field)
        if not isinstance(template, str):
            continue  # not given, or to be refused for what it is
        try:
            names = names_in(template)
        except ValueError as exc:
            faults.append(row.fault(field, str(exc)))
            continue
        if unknown := [name for name in names if name not in lists]:
            faults.append(row.fault(field, _unknown_rule(unknown, lists)))
            missed.update(near for name in unknown for near in suggested(name, tuple(lists)))
        named.update((name, None) for name in names if name in lists)
    return list(named), missed


def _unknown_rule(names: Sequence[str], lists: Lists) -> str:
    """Return the rule that places break which name no list, with what they may have meant."""
    near = next((hint for name in names if (hint := did_you_mean(name, tuple(lists)))), "")
    places = ", ".join(f"{{{name}}}" for name in names)
    return f"must name lists among {', '.join(lists)}, got {places}{near}; braces of its own must be doubled"


def _sweep(row: Row, faults: list[Fault]) -> list[Axis]:
    sweep = row.fields.get(SWEEP, {})
    if not isinstance(sweep, Mapping):
        faults.append(row.fault(SWEEP, f"must be an object of fields and their values, got {got(sweep)}"))
        return []
    axes = []
    for name, values in sweep.items():
        try:
            axes.append(swept(name, values))
        except ValueError as exc:
            faults.append(row.fault(f"{SWEEP}.{name}", str(exc)))
            continue
        if _is_given(row, name):
            faults.append(row.fault(f"{SWEEP}.{name}", f"must not be given beside {name}"))
    return axes


def _is_given(row: Row, name: str) -> bool:
    """Return whether the row has one value for what its sweep varies."""
    outer, dot, inner = str(name).partition(".")
    given = row.fields.get(outer)
    return given is not None and (not dot or (isinstance(given, Mapping) and inner in given))


def _misfit(row: Row, axes: Sequence[Axis], mode: object) -> Fault | None:
    """Return why the axes of a row cannot be combined, if they cannot."""
    if mode not in MODES:
        return row.fault(SWEEP_MODE, f"must be one of {', '.join(MODES)}, got {got(mode)}")
    if SWEEP_MODE in row.fields and not axes:
        return row.fault(SWEEP_MODE, f"must stand beside {SWEEP} or {LISTS}, got neither")
    sizes = [len(axis.values) for axis in axes]
    if mode == "zip" and len(set(sizes)) > 1:
        named = ", ".join(f"{axis.name} {size}" for axis, size in zip(axes, sizes, strict=True))
        return row.fault(SWEEP_MODE, f"zip must have as many values of each, got {named}")
    if mode == "product" and prod(sizes) > EXPANSION_LIMIT:
        times = " x ".join(map(str, sizes))
        return row.fault(None, f"a line must stand for at most {EXPANSION_LIMIT} requests, got {times} = {prod(sizes)}")
    return None


def _members(
    row: Row, filling: Sequence[Axis], axes: Sequence[Axis], *, is_template: bool, is_zip: bool, separator: str
) -> Iterator[Row]:
    values = [axis.values for axis in (*filling, *axes)]
    combinations = zip(*values, strict=True) if is_zip and values else product(*values)
    constant = {name: value for name, value in row.fields.items() if name not in (SWEEP, SWEEP_MODE, LISTS)}
    names = {**row.names, **{axis.name: f"{SWEEP}.{axis.name}" for axis in axes}}
    for number, combination in enumerate(combinations):
        texts = {axis.name: value for axis, value in zip(filling, combination, strict=False)}
        fields = _filled(constant, texts) if is_template else dict(constant)
        _set(fields, axes, combination[len(filling) :])
        if values and type(custom_id := fields.get("custom_id")) in (str, int):
            fields["custom_id"] = f"{custom_id}{separator}{number}"
        yield Row(row.source, row.line, fields, row.typed, names, row.expects)


def _filled(fields: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """Return the fields with the templates filled, and the texts in the metadata, as labels of the image."""
    templates = {name: filled(fields[name], texts) for name in TEMPLATES if isinstance(fields.get(name), str)}
    metadata = fields.get("metadata", {})
    if texts and isinstance(metadata, Mapping):
        return {**fields, **templates, "metadata": {**texts, **metadata}}
    return {**fields, **templates}


def _set(fields: dict[str, Any], axes: Sequence[Axis], values: Sequence[Any]) -> None:
    for axis, value in zip(axes, values, strict=True):
        outer, _, inner = axis.name.partition(".")
        given = fields.get(outer, {})
        if not inner:
            fields[axis.name] = value
        elif isinstance(given, Mapping):  # if not, it is refused for what it is
            fields[outer] = {**given, inner: value}
