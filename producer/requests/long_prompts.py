"""Prompts that are longer than a text encoder takes: what becomes of each, and one fault for all that are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ddim_core.checkpoints.prompts import PromptReader, PromptSize
from ddim_core.contracts.long_prompts import DEFAULT_MAX_WINDOWS, LongPrompts
from ddim_core.contracts.request import MAX_PROMPT_CHARS, Request
from ddim_core.errors import Fault
from producer.requests.rows import Row

MODE, MAX_WINDOWS = "long_prompts", "max_windows"
_TEXTS = ("prompt", "negative_prompt")


def named_options(long_prompts: LongPrompts | None, max_windows: int | None) -> dict[str, Any]:
    """Return what was named of the two as fields of requests."""
    given = {MODE: long_prompts, MAX_WINDOWS: max_windows}
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Long:
    """A prompt that is too long, and where it stands."""

    row: Row
    name: str
    size: PromptSize
    most: int
    """Windows that it may fill."""

    @property
    def place(self) -> str:
        return self.row.source if self.row.line is None else f"{self.row.source}:{self.row.line}"


@dataclass(slots=True)
class _Refused:
    """Requests that are refused for the length of a prompt: counted, with the first and the longest of them."""

    count: int = 0
    first: _Long | None = None
    longest: _Long | None = None
    most_windows: int = 1

    def add(self, found: _Long) -> None:
        self.count += 1
        self.first = self.first or found
        if self.longest is None or found.size.tokens > self.longest.size.tokens:
            self.longest = found
        self.most_windows = max(self.most_windows, found.size.windows)

    def fault(self, rule: str, remedy: str) -> Fault:
        """Return one fault for all, where the first of them stands, which breaks ``rule``."""
        assert self.first is not None and self.longest is not None
        others = ""
        if self.count > 1:
            place = "" if self.longest is self.first else f" at {self.longest.place}"
            longest = f"the longest of {self.longest.size.tokens} tokens{place}"
            others = f"; {self.count} requests have such a prompt, {longest}"
        return self.first.row.fault(self.first.name, f"{rule}{others}; {remedy}")


class LongPromptCheck:
    """Looks at the prompts of one request after another."""

    def __init__(self, reader: PromptReader | None, model: str, defaults: Mapping[str, Any]) -> None:
        """Take what reads a model's prompts, if it takes some, and what holds for requests that do not say.

        Where nobody says, they are cut: the runs of earlier versions know nothing else.
        """
        self._reader, self._model = reader, model
        self._mode: LongPrompts = defaults.get(MODE) or "cut"
        self._most = defaults.get(MAX_WINDOWS) or DEFAULT_MAX_WINDOWS
        self._too_long, self._too_many = _Refused(), _Refused()

    @property
    def refused(self) -> int:
        """How many requests were refused so far."""
        return self._too_long.count + self._too_many.count

    def look_at(self, row: Row, fields: Mapping[str, Any]) -> None:
        """Take in the fields of a row, which may be wrong in other ways."""
        found = self._longest(fields)
        if found is None:
            return
        mode, own = fields.get(MODE) or self._mode, fields.get(MAX_WINDOWS)
        long = _Long(row, *found, most=own if isinstance(own, int) else self._most)
        if mode == "refuse":
            self._too_long.add(long)
        elif mode == "chunk" and long.size.windows > long.most:
            self._too_many.add(long)

    def decided(self, request: Request) -> Request:
        """Return a request that names what becomes of its prompts if one of them is too long, and only then."""
        mode = (request.long_prompts or self._mode) if self._is_long(request) else None
        if request.long_prompts == mode and request.max_windows is None:
            return request
        return request.model_copy(update={MODE: mode, MAX_WINDOWS: None})

    def windows(self, request: Request) -> int:
        """Return how many windows of the text encoder the prompts of a decided request fill."""
        if self._reader is None or request.long_prompts != "chunk":
            return 1
        return max(self._reader.size(text).windows for text in (request.prompt, request.negative_prompt))

    def faults(self) -> Iterator[Fault]:
        """Yield one fault for all prompts that are too long, and one for all that take too many windows."""
        if (first := self._too_long.first) is not None:
            limit, tokens = first.size.limit, first.size.tokens
            rule = f"must have at most {limit} tokens with {self._model}, got {tokens}"
            remedy = (
                "--long-prompts cut has the rest left out, and each row says so; "
                f"--long-prompts chunk has all of it encoded, in windows of {limit} tokens"
            )
            yield self._too_long.fault(rule, remedy)
        if (first := self._too_many.first) is not None:
            limit, windows = first.size.limit, first.size.windows
            rule = f"must fill at most {first.most} windows of {limit} tokens with {self._model}, got {windows}"
            remedy = (
                f"--max-windows {self._too_many.most_windows} allows all of them; "
                "--long-prompts cut has the rest left out, and each row says so"
            )
            yield self._too_many.fault(rule, remedy)

    def _is_long(self, request: Request) -> bool:
        return self._longest({name: getattr(request, name) for name in _TEXTS}) is not None

    def _longest(self, fields: Mapping[str, Any]) -> tuple[str, PromptSize] | None:
        """Return name and size of the longer of the prompts that are too long, if one is."""
        longest: tuple[str, PromptSize] | None = None
        reader = self._reader
        if reader is None:
            return None
        for name in _TEXTS:
            text = fields.get(name)
            if not isinstance(text, str) or reader.fits(text) or len(text) > MAX_PROMPT_CHARS:
                continue  # the last is refused for what it is
            size = reader.size(text)
            if size.is_long and (longest is None or size.tokens > longest[1].tokens):
                longest = name, size
        return longest
