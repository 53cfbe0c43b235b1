"""Objects of a store that hold one contract each, as JSON."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ddim_core.errors import StorageError
from ddim_core.storage.objects import ObjectStore

Model = TypeVar("Model", bound=BaseModel)


def encode_document(model: BaseModel) -> bytes:
    """Return a contract as an object's bytes, for people to read."""
    return model.model_dump_json(indent=2).encode() + b"\n"


def read_document(store: ObjectStore, path: str, model: type[Model]) -> Model:
    """Return the contract that an object holds.

    Raises:
        FileNotFoundError: There is no such object.
        StorageError: The store failed, or the object is damaged.
    """
    data = store.get(path)
    try:
        return model.model_validate(json.loads(data))
    except (ValueError, RecursionError) as exc:  # pydantic's, too
        raise damaged(store, path, exc) from exc


def damaged(store: ObjectStore, path: str, exc: Exception) -> StorageError:
    """Return an error that names the object and its first fault."""
    return StorageError(f"{store.url}/{path} is damaged: {first_fault(exc)}")


def first_fault(exc: Exception) -> str:
    """Return what is wrong first, and with which field if pydantic says so."""
    if isinstance(exc, ValidationError):
        fault = exc.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
