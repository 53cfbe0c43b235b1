"""The files beside a report's page: all rows of the run and their thumbnails, in pieces that the page asks for.

A page that was opened from a folder cannot fetch; it can run scripts. So each piece is a script that hands its content
to the page: ``report.take("rows-00000", {...})``.
"""

from __future__ import annotations

import json
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import REPORT_FOLDER
from producer.report.cards import Card
from producer.report.facets import Pairs

PAGE_CARDS = 60
"""Cards of a page, and thumbnails of a file: a page without a filter needs one."""
ROWS_PER_FILE = 30 * PAGE_CARDS
_WRITERS = 4
_EACH = ("key", "caption", "status", "fault")
"""What a row has of a card, as it is."""
_OURS = re.compile(rf"^{REPORT_FOLDER}/[0-9a-f]{{16}}/(rows|images)-\d{{5,}}\.js$")


class Beside:
    """Writes the files of one edition, in memory that does not grow with the run.

    Each edition has a folder of its own, so that the page of an earlier one stays true until the new page is there.
    """

    def __init__(self, store: ObjectStore, edition: str) -> None:
        """Write below ``report/`` of this store."""
        self.folder = f"{REPORT_FOLDER}/{edition}"
        self.count = 0
        """Cards so far."""
        self._store = store
        self._rows: list[Card] = []
        self._images: list[tuple[str, int, int, bool] | None] = []
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="report-put")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> Beside:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop its threads."""
        self._pool.shutdown(cancel_futures=True)

    def add(self, card: Card) -> None:
        """Add the next card of the run."""
        found = card.picture
        self._images.append((found.source, found.width_px, found.height_px, found.enlarged) if found else None)
        self._rows.append(card)
        self.count += 1
        if self.count % PAGE_CARDS == 0:
            self._write_images()
        if self.count % ROWS_PER_FILE == 0:
            self._write_rows()

    def finish(self) -> None:
        """Write what is left, and wait until all of it is in the store.

        Raises:
            StorageError: The store failed.
        """
        if self._images:
            self._write_images()
        if self._rows:
            self._write_rows()
        while self._writing:
            self._writing.popleft().result()

    def delete_others(self) -> None:
        """Delete the files of earlier editions, once no page needs them; nothing else that lies there."""
        for path, _ in list(self._store.list(REPORT_FOLDER)):
            if _OURS.match(path) and not path.startswith(f"{self.folder}/"):
                self._store.delete(path)

    def _write_images(self) -> None:
        self._write(f"images-{(self.count - 1) // PAGE_CARDS:05d}", self._images)
        self._images = []

    def _write_rows(self) -> None:
        self._write(f"rows-{(self.count - 1) // ROWS_PER_FILE:05d}", columns(self._rows))
        self._rows = []

    def _write(self, name: str, content: object) -> None:
        data = f'report.take("{name}", {as_script(content)});\n'.encode("ascii")
        self._writing.append(self._pool.submit(self._store.put, f"{self.folder}/{name}.js", data))
        if len(self._writing) > _WRITERS:
            self._writing.popleft().result()


def columns(cards: list[Card]) -> dict[str, Any]:
    """Return rows as columns, with what they share written once."""
    shared: dict[Pairs, int] = {}
    labels: dict[Pairs, int] = {}
    own: dict[str, list[str]] = {name: [] for name, _ in cards[0].own}
    content: dict[str, Any] = {name: [] for name in (*_EACH, "sharedIndex", "labelsIndex")}
    for card in cards:
        for name in _EACH:
            content[name].append(getattr(card, name))
        for name, value in card.own:
            own[name].append(value)
        content["sharedIndex"].append(shared.setdefault(card.shared, len(shared)))
        content["labelsIndex"].append(labels.setdefault(card.labels, len(labels)))
    # Names of labels are people's, and one may be __proto__: they stay pairs.
    return {**content, "own": own, "shared": [dict(pairs) for pairs in shared], "labels": list(labels)}


def as_script(content: object) -> str:
    """Return JSON that is safe in a script and in a page: ASCII only, and nothing that ends or begins an element."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
