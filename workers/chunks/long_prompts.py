"""Prompts that are longer than the text encoder takes: refused where they must not be, and told of in the rows."""

from __future__ import annotations

from typing import Any

from ddim_core.checkpoints.prompts import PromptReader, PromptSize
from ddim_core.contracts.sample import SampleSpec
from ddim_core.errors import PromptTooLongError


def refuse_too_long(spec: SampleSpec, reader: PromptReader | None) -> None:
    """Make sure that a sample's prompts are as long as its request may have them; ``reader`` is its checkpoint's own.

    Producers refuse them first: a plan that has such a request was made by other means, or for another checkpoint.

    Raises:
        PromptTooLongError: One is too long, or they fill other windows than the chunk says.
    """
    if reader is None or spec.long_prompts == "cut":
        return
    sizes = _sizes(spec, reader)
    for name, size in sizes.items():
        if spec.long_prompts == "refuse" and size.is_long:
            raise PromptTooLongError(f"{name} must have at most {size.limit} tokens, got {size.tokens}")
    filled = max(size.windows for size in sizes.values())
    if spec.long_prompts == "chunk" and filled != spec.windows:
        raise PromptTooLongError(f"windows must be {filled}, as many as the prompts fill, got {spec.windows}")


def text_columns(spec: SampleSpec, reader: PromptReader | None) -> dict[str, Any]:
    """Return the columns of a row that say what was seen of a sample's prompts."""
    columns: dict[str, Any] = {"long_prompts": spec.long_prompts, "windows": spec.windows}
    if reader is None:
        return columns
    for name, size in _sizes(spec, reader).items():
        columns[f"{name}_tokens"] = size.tokens
        if spec.long_prompts == "cut" and size.is_long:
            columns[f"{name}_used"] = reader.used(getattr(spec, name))
    return columns


def _sizes(spec: SampleSpec, reader: PromptReader) -> dict[str, PromptSize]:
    return {name: reader.size(getattr(spec, name)) for name in ("prompt", "negative_prompt")}
