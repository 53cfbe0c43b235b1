"""Lines of the OpenAI Batch form: ``{"custom_id", "method", "url", "body"}``, one image request each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ddim_core.contracts.request import Request
from ddim_core.errors import Fault
from producer.requests.messages import got, known_field
from producer.requests.rows import Row

METHOD = "POST"
IMAGES_URL = "/v1/images/generations"

_LINE = ("custom_id", "method", "url", "body")
_THEIRS = {"n": ("num_images_per_prompt",), "size": ("width", "height")}
"""Fields of a body that set fields of ours."""
_EXPECTED = ("model", "output_format")
"""Fields of a body that say what the run must be like."""
_OURS = tuple(name for name in Request.model_fields if name != "custom_id")
_BODY = ("prompt", *_EXPECTED, *_THEIRS, *(name for name in _OURS if name != "prompt"))
_NAMES = {name: f"body.{name}" for name in _OURS}
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_MODEL_SIZE = "auto"


def has_batch_form(fields: Mapping[str, Any]) -> bool:
    """Return whether a line's fields are those of the OpenAI Batch form; no request of ours has any of them."""
    return "body" in fields or ("url" in fields and "method" in fields)


def request_rows(line: Row) -> Iterator[Row | Fault]:
    """Yield the request of a line of that form, or all that is wrong with its form."""
    faults = list(_line_faults(line))
    body = line.fields.get("body")
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if value is not None}
        faults += _body_faults(line, body)
    if faults or not isinstance(body, dict):
        yield from faults
        return
    fields = {name: value for name, value in body.items() if name not in _THEIRS and name not in _EXPECTED}
    fields["custom_id"] = line.fields["custom_id"]
    names = _NAMES
    for theirs in _THEIRS.keys() & body.keys():
        fields.update(_translated(theirs, body[theirs]))
        names = {**names, **dict.fromkeys(_THEIRS[theirs], f"body.{theirs}")}
    expects = {name: body[name] for name in _EXPECTED if name in body}
    yield Row(line.source, line.line, fields, names=names, expects=expects)


def _line_faults(line: Row) -> Iterator[Fault]:
    fields = line.fields
    for name in _LINE:
        if name not in fields:
            yield line.fault(name, "must be given in the OpenAI Batch form")
    for name, only in (("method", METHOD), ("url", IMAGES_URL)):
        if name in fields and fields[name] != only:
            yield line.fault(name, f"must be {only}, got {got(fields[name])}")
    if "body" in fields and not isinstance(fields["body"], dict):
        yield line.fault("body", f"must be an object of names and values, got {got(fields['body'])}")
    for name in fields:
        if name not in _LINE:
            yield line.fault(None, f"a field {known_field(name, _LINE)}")


def _body_faults(line: Row, body: Mapping[str, Any]) -> Iterator[Fault]:
    for name in body:
        if name not in _BODY:
            yield line.fault(None, f"a field of body {known_field(name, _BODY)}")
    for theirs, ours in _THEIRS.items():
        for name in ours:
            if theirs in body and name in body:
                yield line.fault(f"body.{theirs}", f"must not be given beside body.{name}")
    size = body.get("size", _MODEL_SIZE)
    if size != _MODEL_SIZE and not (isinstance(size, str) and _SIZE.fullmatch(size)):
        yield line.fault("body.size", f"must be WIDTHxHEIGHT in pixels, as in 512x512, or auto, got {got(size)}")


def _translated(name: str, value: Any) -> dict[str, Any]:
    """Return our fields for one of theirs."""
    if name == "n":
        return {"num_images_per_prompt": value}
    size = _SIZE.fullmatch(value)
    return {"width": int(size[1]), "height": int(size[2])} if size else {}
