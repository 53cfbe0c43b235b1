"""Timesteps and where each step leads."""

from __future__ import annotations

import numpy as np
import pytest

from ddim_core.errors import ScheduleError
from ddim_core.schedule import TIMESTEP_SPACINGS, ScheduleConfig, predecessors, timesteps


def config_for(spacing: str, total: int = 1000) -> ScheduleConfig:
    return ScheduleConfig(num_train_timesteps=total, timestep_spacing=spacing, timestep_pairs="visited")


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading", [800, 600, 400, 200, 0]),
        ("trailing", [999, 799, 599, 399, 199]),
        ("linspace", [999, 749, 500, 250, 0]),
        ("quad", [800, 450, 200, 50, 0]),
    ],
)
def test_five_steps_of_a_thousand_visit_the_known_timesteps(spacing: str, expected: list[int]) -> None:
    """The first three are written out in Lin et al. 2024, Table 2 (here from 0); quad is 0.8 T (i / 4)^2."""
    assert timesteps(config_for(spacing), 5).tolist() == expected


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
@pytest.mark.parametrize("total", [2, 7, 100, 999, 1000])
def test_every_step_count_visits_distinct_descending_timesteps_within_the_schedule(spacing: str, total: int) -> None:
    """No step count repeats a timestep, leaves the schedule, or gives another number of steps than asked for."""
    for steps in range(2, total + 1):
        visited = timesteps(config_for(spacing, total), steps)
        assert visited.dtype == np.int64
        assert len(visited) == steps
        assert visited[0] < total
        assert visited[-1] >= 0
        assert (np.diff(visited) < 0).all()


def test_trailing_does_not_end_on_a_timestep_below_zero() -> None:
    """With 61 steps of 1000, NumPy's arange gives 62 values, and mindone a last timestep of -1."""
    visited = timesteps(config_for("trailing"), 61)
    assert len(visited) == 61
    assert visited[-1] == 15


def test_quad_takes_the_free_timestep_where_the_square_repeats_one() -> None:
    """floor(c i^2) starts 0, 0, 1, 3 with 50 steps of 1000; the second 0 would be a step that changes nothing."""
    assert timesteps(config_for("quad"), 50)[::-1][:5].tolist() == [0, 1, 2, 3, 5]


def test_quad_equals_the_authors_sequence_where_that_has_no_repeats() -> None:
    """Ten steps: floor of evenly spaced roots up to sqrt(0.8 T), squared."""
    assert timesteps(config_for("quad"), 10)[::-1].tolist() == [int(800 * (i / 9) ** 2) for i in range(10)]


def test_steps_offset_shifts_leading_and_nothing_else() -> None:
    """As in diffusers, where Stable Diffusion's steps_offset=1 has no effect on trailing."""
    for spacing, shift in (("leading", 1), ("trailing", 0), ("linspace", 0)):
        plain = timesteps(ScheduleConfig(timestep_spacing=spacing), 50)
        offset = timesteps(ScheduleConfig(timestep_spacing=spacing, steps_offset=1), 50)
        assert (offset - plain == shift).all()


def test_an_offset_past_the_last_timestep_is_refused_with_the_largest_that_fits() -> None:
    """Mindone computes timestep 1000 of 1000 here and fails at the first step with an index error."""
    message = (
        r"steps_offset must be at most 0 with timestep_spacing=leading and num_inference_steps=1000, got 1: "
        r".*lower steps_offset or num_inference_steps, or choose timestep_spacing=trailing"
    )
    with pytest.raises(ScheduleError, match=message):
        timesteps(ScheduleConfig(steps_offset=1), 1000)
    assert timesteps(ScheduleConfig(steps_offset=1), 999)[0] == 999


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True, "50", None])
def test_a_step_count_that_is_no_whole_number_within_the_schedule_is_refused(steps: object) -> None:
    """Mindone divides by zero, returns no timesteps, or takes True for 1."""
    with pytest.raises(ScheduleError, match="num_inference_steps must be a whole number from 1 to 1000, got "):
        timesteps(ScheduleConfig(), steps)  # type: ignore[arg-type]


def test_quad_with_one_step_is_refused() -> None:
    """Its only timestep would be 0, where no noise is left to remove."""
    with pytest.raises(ScheduleError, match="num_inference_steps must be at least 2 with timestep_spacing=quad, got 1"):
        timesteps(config_for("quad"), 1)


def test_pairs_of_diffusers_go_a_fixed_distance_back() -> None:
    """T // N = 33 for 30 steps, which is not the distance between the timesteps visited."""
    config = ScheduleConfig(timestep_spacing="linspace")
    visited = timesteps(config, 30)
    assert (predecessors(config, 30, visited) == np.maximum(visited - 33, -1)).all()
    assert (predecessors(config, 30, visited)[:-1] != visited[1:]).all()


@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_pairs_visited_lead_to_the_next_timestep_and_last_to_x0(spacing: str) -> None:
    """The paper's rule: tau_i leads to tau_(i-1), and tau_1 to x_0."""
    config = config_for(spacing)
    visited = timesteps(config, 30)
    assert predecessors(config, 30, visited).tolist() == [*visited[1:].tolist(), -1]


def test_pairs_visited_lead_from_any_other_timestep_to_the_next_lower_one_visited() -> None:
    """A pipeline may start between two timesteps of the sequence (image to image)."""
    config = ScheduleConfig(num_train_timesteps=10, timestep_pairs="visited", steps_offset=1)
    assert timesteps(config, 3).tolist() == [7, 4, 1]
    assert predecessors(config, 3, np.arange(10)).tolist() == [-1, -1, 1, 1, 1, 4, 4, 4, 7, 7]


def test_timesteps_cannot_be_written_to() -> None:
    """They are shared through the cached table."""
    with pytest.raises(ValueError, match="read-only"):
        timesteps(ScheduleConfig(), 5)[0] = 1
