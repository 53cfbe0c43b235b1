"""Contracts that grew: what was added and is not used does not stand in their JSON, so that older programs read it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer


class Lean(BaseModel):
    """A contract that leaves out of its JSON the fields of ``added_later`` that have their defaults."""

    added_later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialize(self)
        for name in self.added_later & written.keys():
            if getattr(self, name) == type(self).model_fields[name].default:
                del written[name]
        return written
