"""``results.jsonl`` and ``errors.jsonl``: what became of each request, as lines of the OpenAI Batch form."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.record import SUCCESS
from ddim_core.errors import FleetError
from ddim_core.storage.run_folder import RunFolder

RESULTS, ERRORS = "results.jsonl", "errors.jsonl"
PARTIAL_FAILURE = "partial_failure"
"""The code of an error beside images: some of the request's were made, and some were not."""

_PIECE_BYTES = 1 << 20


class ResultLines:
    """Takes the rows of a run in the order of their keys, and becomes the two files: a line a request, in one of them.

    Their bytes follow from the rows and the plan; of the rows, one request's are in memory.
    """

    columns = (
        "key",
        "custom_id",
        "request_index",
        "image",
        "status",
        "error_code",
        "error_message",
        "path",
        "sha256",
        "prompt_used",
    )

    def __init__(self, plan: RunPlan) -> None:
        """Begin with no line; ``created`` is when the run was planned, the one time that no worker has a part in."""
        self._run_id = plan.run_id
        self._created = int(datetime.fromisoformat(plan.created_at.replace("Z", "+00:00")).timestamp())
        self._lines = {RESULTS: _Lines(), ERRORS: _Lines()}
        self._request: list[Any] = []

    def add(self, row: Any) -> None:
        """Take in the next row."""
        if self._request and self._request[0].request_index != row.request_index:
            self._end_request()
        self._request.append(row)

    def write(self, folder: RunFolder) -> list[FileEntry]:
        """Write the files that have lines, and return their entries; delete an earlier one that now has none.

        Nothing can be added after that.
        """
        if self._request:
            self._end_request()
        entries = []
        for path, lines in self._lines.items():
            with lines.file:
                if lines.size_bytes:
                    folder.store.put_pieces(path, lines.pieces())
                    entries.append(lines.entry(path))
                else:
                    folder.store.delete(path)
        return entries

    def _end_request(self) -> None:
        rows, self._request = self._request, []
        made = [row for row in rows if row.status == SUCCESS]
        name = f"{self._run_id}_{rows[0].request_index:09d}"
        line = {
            "id": f"batch_req_{name}",
            "custom_id": rows[0].custom_id,
            "response": self._response(name, made) if made else None,
            "error": _error(rows),
        }
        self._lines[RESULTS if made else ERRORS].add(line)

    def _response(self, name: str, made: list[Any]) -> dict[str, Any]:
        data = [_image(row) for row in made]
        return {"status_code": 200, "request_id": f"req_{name}", "body": {"created": self._created, "data": data}}


def _image(row: Any) -> dict[str, Any]:
    image = {"image": row.image, "key": row.key, "path": row.path, "sha256": row.sha256}
    return image if row.prompt_used is None else {**image, "revised_prompt": row.prompt_used}


def _error(rows: list[Any]) -> dict[str, str] | None:
    """Return what failed of a request, or None; the first failure speaks for all."""
    failed = [row for row in rows if row.status != SUCCESS]
    if not failed:
        return None
    first = failed[0]
    code = first.error_code or FleetError.code
    message = first.error_message or code
    if len(rows) > 1:
        message = f"{len(failed)} of {len(rows)} images failed, image {first.image}: {code}: {message}"
    if len(failed) < len(rows):
        code = PARTIAL_FAILURE
    return {"code": code, "message": message}


class _Lines:
    """JSON lines in a temporary file, with their hash: there may be millions."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="ddim-fleet-")  # noqa: SIM115 - closed when it is written
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def add(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"
        self.file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def pieces(self) -> Iterator[bytes]:
        self.file.seek(0)
        while piece := self.file.read(_PIECE_BYTES):
            yield piece

    def entry(self, path: str) -> FileEntry:
        return FileEntry(path=path, size_bytes=self.size_bytes, sha256=self._sha256.hexdigest())
