"""The coefficient bank: rows that link to each other, shared, counted and evicted."""

from __future__ import annotations

import numpy as np
import pytest

from ddim_core.errors import SampleError
from ddim_core.sampling.bank import COLUMNS, IDLE_ROW, CoefficientBank, TableKey
from ddim_core.schedule import RoundTrip, ScheduleConfig, step_table

SCHEDULE = ScheduleConfig(prediction_type="v_prediction", timestep_spacing="trailing")


def key(steps: int, eta: float = 0.0, schedule: ScheduleConfig = SCHEDULE) -> TableKey:
    return TableKey(schedule, steps, eta)


def walk(bank: CoefficientBank, row: int) -> list[int]:
    rows = []
    while row != IDLE_ROW:
        rows.append(row)
        row = int(bank.rows[row, COLUMNS.index("next_row")])
        assert len(rows) < len(bank.rows)
    return rows


def test_following_the_rows_visits_the_table_and_ends_at_rest() -> None:
    """A lane needs no word from the host when its sample ends: the last row leads to the idle one."""
    bank = CoefficientBank(100)
    bank.acquire(key(5))
    rows = walk(bank, bank.acquire(key(7, 1.0)))
    table = step_table(SCHEDULE, 7, 1.0)
    assert len(rows) == 7
    for name in ("x0_from_x", "x0_from_out", "eps_from_x", "eps_from_out", "prev_from_x0", "prev_from_eps", "sigma"):
        expected = getattr(table, name).astype(np.float32)
        assert bank.rows[rows, COLUMNS.index(name)].tolist() == expected.tolist()
    assert bank.rows[rows, COLUMNS.index("timestep")].tolist() == table.timesteps.tolist()


def test_the_idle_row_leaves_a_lane_as_it_is() -> None:
    """x_prev = 1 * (1 * x + 0 * out) + 0 * eps + 0 * z, and the next row is the same."""
    idle = dict(zip(COLUMNS, CoefficientBank(10).rows[IDLE_ROW].tolist(), strict=True))
    assert (idle.pop("x0_from_x"), idle.pop("prev_from_x0")) == (1.0, 1.0)
    assert idle.pop("x0_limit") == float(np.finfo(np.float32).max)
    assert set(idle.values()) == {0.0}


def test_equal_keys_share_rows_and_need_no_second_upload() -> None:
    """A thousand samples with one configuration cost one table."""
    bank = CoefficientBank(100)
    first = bank.acquire(key(10))
    version = bank.version
    assert bank.acquire(key(10)) == first
    assert bank.version == version


def test_rows_that_are_in_use_are_never_overwritten() -> None:
    """Eviction takes the least recently used table without users, and none with."""
    bank = CoefficientBank(1 + 12)
    held = walk(bank, bank.acquire(key(4)))
    before = bank.rows[held].copy()
    bank.acquire(key(5))
    bank.release(key(5))
    bank.acquire(key(8))
    assert (bank.rows[held] == before).all()
    with pytest.raises(SampleError, match="a sample must have at most 0 steps"):
        bank.acquire(key(9))
    bank.release(key(4))
    bank.release(key(8))
    assert len(walk(bank, bank.acquire(key(12)))) == 12


def test_a_table_may_lie_in_scattered_rows() -> None:
    """Freed rows of several tables serve one larger table: there is no fragmentation."""
    bank = CoefficientBank(1 + 9)
    for steps in (2, 3, 4):
        bank.acquire(key(steps))
    for steps in (2, 4):
        bank.release(key(steps))
    assert len(walk(bank, bank.acquire(key(6)))) == 6
    assert len(walk(bank, bank.acquire(key(3)))) == 3


def test_what_limits_x0_is_in_the_rows() -> None:
    """Clipping and dynamic thresholding are per sample, like every coefficient."""
    bank = CoefficientBank(100)
    columns = [COLUMNS.index(name) for name in ("x0_limit", "threshold_quantile", "threshold_limit")]
    largest = float(np.finfo(np.float32).max)
    cases = [
        (ScheduleConfig(clip_sample=True, clip_sample_range=2.0), [2.0, 0.0, 1.0]),
        (ScheduleConfig(clip_sample=False), [largest, 0.0, 1.0]),
        (ScheduleConfig(thresholding=True, sample_max_value=1.5), [largest, np.float32(0.995), 1.5]),
    ]
    for schedule, expected in cases:
        assert bank.rows[bank.acquire(key(3, schedule=schedule)), columns].tolist() == expected


def test_a_round_trip_is_the_way_up_and_then_the_way_down() -> None:
    """Its rows are those of the two tables, linked; those of the way down alone are other rows."""
    bank = CoefficientBank(100)
    down = walk(bank, bank.acquire(key(5)))
    both = walk(bank, bank.acquire(TableKey(SCHEDULE, 5, 0.0, RoundTrip())))
    assert len(both) == 10 and not set(both) & set(down)
    step_columns = slice(1, None)  # all but the next row
    assert np.array_equal(bank.rows[both[5:], step_columns], bank.rows[down, step_columns])
    timesteps = bank.rows[both, COLUMNS.index("timestep")].tolist()
    assert timesteps[:5] == timesteps[:4:-1] == sorted(timesteps[:5])
