"""A process that samples for a short while: it gets rows, and leaves images and their new rows in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import TypeAlias

from ddim_core.contracts.kinds import INPUT
from ddim_core.contracts.record import Record
from ddim_core.contracts.replay import COMPLAINT, REPLAY_MODULE, REPLAYED, ReplayOrder
from ddim_core.errors import HostError
from ddim_core.storage.run_folder import RunFolder
from producer.local.child import running

_POLL_S = 1.0
Tell: TypeAlias = Callable[[int], None]


@contextmanager
def made_again(
    rows: Sequence[Record],
    devices: str,
    models: Sequence[str] = (),
    *,
    run: RunFolder | None = None,
    tell: Tell = lambda _: None,
) -> Iterator[dict[str, Record]]:
    """Make the images of rows again; yield their new rows by key, whose ``path`` is a file until the block ends.

    Args:
        rows: Of any images, also of those that failed.
        devices: Where, in a form of ``ddim-fleet worker --devices``; the first device is taken.
        models: Where the checkpoint lies; by default where its row says.
        run: Holds the pictures that rows invert.
        tell: Is told once a second how many images lie there.

    Raises:
        InputError: The devices are misspelt, or the checkpoint is not there or is another one now.
        HostError: This host cannot sample, or the device failed.
    """
    if find_spec(REPLAY_MODULE.partition(".")[0]) is None:
        raise HostError("making images again needs the workers: pip install 'ddim-fleet[worker]'")
    with tempfile.TemporaryDirectory(prefix="ddim-fleet-replay-") as folder:
        places = tuple(models) or tuple({row.model for row in rows if PurePath(row.model).is_absolute()})
        for source in {row.source for row in rows if row.source is not None}:
            _copy(source, run, Path(folder))
        order = ReplayOrder(devices=devices, models=places, folder=folder, rows=tuple(rows))
        _run(order, Path(folder) / "log", tell)
        yield dict(_new_rows(Path(folder)))


def _copy(source: str, run: RunFolder | None, folder: Path) -> None:
    """Lay a picture where the sampling process looks for it; one that is gone fails the rows that need it."""
    if run is None or not INPUT.fullmatch(source):
        return
    with suppress(FileNotFoundError):
        data = run.store.get(source)
        (folder / source).parent.mkdir(exist_ok=True)
        (folder / source).write_bytes(data)


def _run(order: ReplayOrder, log: Path, tell: Tell) -> None:
    command = [sys.executable, "-m", REPLAY_MODULE]
    names = {f"{row.key}.{row.format}" for row in order.rows}
    with running("the sampling process", command, log, stdin=order.model_dump_json().encode()) as child:
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = child.process.wait(_POLL_S)
                break
            tell(sum(path.name in names for path in Path(order.folder).iterdir()))
        if code:
            raise child.complaint(COMPLAINT, code)


def _new_rows(folder: Path) -> Iterator[tuple[str, Record]]:
    for line in (folder / REPLAYED).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["path"] = str(folder / row["path"]) if row["path"] else None
        yield row["key"], Record(**row)
