"""The coefficient rows of all schedules in use, as one array that is uploaded when it changes.

A lane on the device points at a row; each row says which row comes next, so the rows of a table need not be neighbours
and the last one leads to row 0, where a lane rests and keeps its x: the device needs no word from the host when a
sample ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ddim_core.errors import SampleError
from ddim_core.schedule import DOWN, Path, ScheduleConfig, StepTable, path_tables

COLUMNS = (
    "next_row",  # exact: float32 counts to 2**24
    "timestep",
    "x0_from_x",
    "x0_from_out",
    "eps_from_x",
    "eps_from_out",
    "prev_from_x0",
    "prev_from_eps",
    "sigma",
    "x0_limit",  # |x0| is clipped to this; the largest float32 where the schedule does not clip
    "threshold_quantile",  # 0 where the schedule has no dynamic thresholding
    "threshold_limit",
)
IDLE_ROW = 0

_NO_LIMIT = float(np.finfo(np.float32).max)
_IDENTITY = {"next_row": IDLE_ROW, "x0_from_x": 1.0, "prev_from_x0": 1.0, "x0_limit": _NO_LIMIT}


@dataclass(frozen=True, slots=True)
class TableKey:
    """What determines the rows of a way through the timesteps; samples with equal keys share them."""

    schedule: ScheduleConfig
    num_inference_steps: int
    eta: float
    path: Path = DOWN


class CoefficientBank:
    """Rows of step tables, shared by key, counted while in use, evicted least recently used first."""

    def __init__(self, capacity: int) -> None:
        """Make a bank of ``capacity`` rows, of which row 0 leaves a lane as it is."""
        self.rows: npt.NDArray[np.float32] = np.zeros((capacity, len(COLUMNS)), np.float32)
        for name, value in _IDENTITY.items():
            self.rows[IDLE_ROW, COLUMNS.index(name)] = value
        self.version = 0
        """Changes whenever ``rows`` does."""
        self._free = list(range(capacity - 1, IDLE_ROW, -1))
        self._rows_of: OrderedDict[TableKey, list[int]] = OrderedDict()
        self._users: dict[TableKey, int] = {}

    def acquire(self, key: TableKey) -> int:
        """Return the first row of a table, writing its rows if they are not there, and count one more user.

        Raises:
            SampleError: The tables in use leave too few rows.
            ScheduleError: No schedule fits the key.
        """
        if key not in self._rows_of:
            self._write(key, path_tables(key.schedule, key.num_inference_steps, key.eta, key.path))
        self._rows_of.move_to_end(key)
        self._users[key] = self._users.get(key, 0) + 1
        return self._rows_of[key][0]

    def release(self, key: TableKey) -> None:
        """Count one user less; an unused table stays until its rows are needed."""
        self._users[key] -= 1

    def clear(self) -> None:
        """Forget every user; the rows stay."""
        self._users.clear()

    def _write(self, key: TableKey, tables: Sequence[StepTable]) -> None:
        count = sum(map(len, tables))
        self._make_room(count)
        rows = [self._free.pop() for _ in range(count)]
        self.rows[rows] = np.concatenate([_as_rows(table) for table in tables])
        self.rows[rows, COLUMNS.index("next_row")] = [*rows[1:], IDLE_ROW]
        self._rows_of[key] = rows
        self.version += 1

    def _make_room(self, num_rows: int) -> None:
        for key in [key for key in self._rows_of if not self._users.get(key)]:
            if len(self._free) >= num_rows:
                break
            self._free.extend(reversed(self._rows_of.pop(key)))
        if len(self._free) < num_rows:
            raise SampleError(
                f"a sample must have at most {len(self._free)} steps while the schedules of other samples fill the "
                f"bank of {len(self.rows)} rows, got {num_rows}"
            )


def _as_rows(table: StepTable) -> npt.NDArray[np.float32]:
    """Return the table in the bank's columns, of which ``next_row`` is left at 0."""
    quantile = table.dynamic_thresholding_ratio
    columns: dict[str, npt.ArrayLike] = {
        "timestep": table.timesteps,
        "x0_limit": _NO_LIMIT if table.clip_sample_range is None else table.clip_sample_range,
        "threshold_quantile": 0.0 if quantile is None else quantile,
        "threshold_limit": 1.0 if table.sample_max_value is None else table.sample_max_value,
    }
    values = [np.broadcast_to(columns.get(name, getattr(table, name, 0.0)), (len(table),)) for name in COLUMNS]
    return np.stack(values, axis=1).astype(np.float32)
