"""Lists that prompts may name, from a file of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from ddim_core.errors import Fault, InputError, RequestFaults
from producer.inputs.encodings import as_utf8
from producer.inputs.jsonl import JSON
from producer.inputs.lines import CONVERT
from producer.inputs.sources import sources
from producer.inputs.streams import Pieces, plain
from producer.requests.expansion import list_fault


def read_lists(path: str) -> Mapping[str, Sequence[str]]:
    """Return the lists of a JSON file: ``{"colour": ["red", "blue"], "shape": [...]}``.

    Raises:
        InputError: The file cannot be read, or is no JSON object.
        RequestFaults: One of its lists is none.
    """
    found = list(sources([path]))
    if len(found) != 1:
        raise InputError(f"the lists must be one file, got {len(found)} that match {path!r}")
    with found[0].open() as file:
        text = _text_of(path, plain("" if found[0].is_piped else path, file))
    try:
        lists = JSON.decode(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"the lists must be a JSON object of names and lists of texts, got {path!r}: {exc}") from exc
    if not isinstance(lists, dict) or not lists:
        raise InputError(f"the lists must be a JSON object of names and lists of texts, got something else in {path!r}")
    faults = [Fault(path, None, name, rule) for name, texts in lists.items() if (rule := list_fault(name, texts))]
    if faults:
        raise RequestFaults(faults)
    return lists


def _text_of(path: str, content: io.BufferedReader[Pieces]) -> str:
    """Return what a file holds as text, in the encodings that requests may have."""
    try:
        return as_utf8(content)[1].read().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        got = f"byte 0x{exc.object[exc.start]:02x} at offset {exc.start}"
        raise InputError(f"the lists must be UTF-8 text, got {got} in {path!r}; {CONVERT}") from exc
    except InputError as exc:
        raise InputError(f"the lists in {path!r}: {exc}") from exc
