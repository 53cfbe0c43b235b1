"""What was added to a run after ``run.json``: how it is read, and how it is added so that all of it counts or nothing.

A change is one object, written on the condition that there is none of its number. What it speaks of (the chunks of an
extension, the list of a retry order) is written before it, and means nothing without it.
"""

from __future__ import annotations

from ddim_core.contracts.changes import CHANGE, Extension, RetryList, RetryOrder
from ddim_core.contracts.plan import RunPlan
from ddim_core.storage.documents import damaged, encode_document, read_document
from ddim_core.storage.objects import ObjectStore


def change_path(number: int) -> str:
    """Return where a change is; they are numbered from 1."""
    return f"changes/{number:04d}.json"


def extension_claim_path(first_chunk: int) -> str:
    """Return where it says who is about to extend the run."""
    return f"changes/extension_{first_chunk:05d}_claim.json"


def retry_path(name: str) -> str:
    """Return where it says which chunks a retry order means."""
    return f"retries/{name}.json"


def retried_path(name: str, chunk: int) -> str:
    """Return the mark that a chunk was made again by a retry order; it is written after the new part."""
    return f"retries/{name}/{chunk:05d}"


def with_later_changes(store: ObjectStore, plan: RunPlan) -> RunPlan:
    """Return the plan with the changes that came after those that it has.

    Raises:
        StorageError: The store failed, or a change is damaged.
    """
    while True:
        path = change_path(plan.generation + 1)
        try:
            data = store.get(path)
        except FileNotFoundError:
            return plan
        try:
            plan = plan.with_change(CHANGE.validate_json(data))
        except ValueError as exc:
            raise damaged(store, path, exc) from exc


def add_change(store: ObjectStore, plan: RunPlan, change: Extension | RetryOrder) -> RunPlan | None:
    """Add a change to ``plan`` and return what it then is, or None if somebody else changed it first."""
    path, data = change_path(plan.generation + 1), encode_document(change)
    # Read again, for services without conditional writes: of two at once, the later one is it.
    if store.put_new(path, data) and store.get(path) == data:
        return plan.with_change(change)
    return None


def claim_extension(store: ObjectStore, extension: Extension, *, take_over: bool = False) -> Extension:
    """Take the chunks after the run's last one for an extension, or take them over; return whose they are now."""
    path, data = extension_claim_path(extension.first_chunk), encode_document(extension)
    if take_over:
        store.put(path, data)
    else:
        store.put_new(path, data)
    return read_document(store, path, Extension)


def write_retry_list(store: ObjectStore, order: RetryOrder, chunks: RetryList) -> None:
    """Write what an order means, before the order itself."""
    store.put(retry_path(order.name), chunks.model_dump_json().encode())


def read_retry_list(store: ObjectStore, order: RetryOrder) -> RetryList:
    """Return the chunks that an order means."""
    return read_document(store, retry_path(order.name), RetryList)
