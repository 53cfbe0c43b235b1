"""Ways to damage bytes, and values that no field takes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

HOSTILE: Sequence[Any] = (
    None, True, -1, 0, 2**63, 1e308, float("nan"), float("inf"), "", "\x00", "../../escape", "/escape",
    "file:///escape", "{}", [], {}, [[]], {"a": {}}, "a" * 5000, "\ud800",
)  # fmt: skip
"""What a field may hold that somebody wrote by hand, by mistake or on purpose."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with one thing wrong; with luck it is still right."""
    return rng.choice(_WAYS)(data, rng)


def hostile_json(fields: dict[str, Any], rng: random.Random) -> bytes:
    """Return an object as JSON in which one field holds what it must not, is missing, or is unknown."""
    name, changed = rng.choice(sorted(fields)), dict(fields)
    way = rng.random()
    if way < 0.15:
        del changed[name]
    elif way < 0.3:
        changed[f"{name}x"] = 1
    else:
        changed[name] = rng.choice(HOSTILE)
    return json.dumps(changed).encode()


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 20)) + data[place:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place // 2 :]


def _swap_number(data: bytes, rng: random.Random) -> bytes:
    digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
    if not digits:
        return _flip(data, rng)
    place = rng.choice(digits)
    return (
        data[:place]
        + rng.choice([b"-", b"1e999", b"NaN", b"null", b'"x"', b"99999999999999999999"])
        + data[place + 1 :]
    )


def _replace_all(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 5000, rng.randbytes(len(data))])


_WAYS: Sequence[Callable[[bytes, random.Random], bytes]] = (_cut, _flip, _insert, _repeat, _swap_number, _replace_all)
