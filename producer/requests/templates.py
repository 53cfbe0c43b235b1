"""Prompts with places to fill: ``a {colour} {shape}``; ``{{`` and ``}}`` stand for braces."""

from __future__ import annotations

import re
from collections.abc import Mapping

LIST_NAME = re.compile(r"\w[\w-]*")

_TOKEN = re.compile(rf"\{{\{{|\}}\}}|\{{({LIST_NAME.pattern})\}}|[{{}}]")


def names_in(template: str) -> list[str]:
    """Return the names that a template has places for, each once, in their order.

    Raises:
        ValueError: A brace is neither doubled nor one of a pair around a name; the message is the rule it breaks.
    """
    names: dict[str, None] = {}
    for token in _TOKEN.finditer(template):
        if token[1]:
            names[token[1]] = None
        elif len(token[0]) == 1:
            raise ValueError(
                f"must have braces only around a list's name, or doubled as {token[0] * 2}, where lists are given, "
                f"got {token[0]} at column {token.start() + 1}"
            )
    return list(names)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template whose names all have values, with these in their places and doubled braces as single ones."""
    return _TOKEN.sub(lambda token: values[token[1]] if token[1] else token[0][0], template)
