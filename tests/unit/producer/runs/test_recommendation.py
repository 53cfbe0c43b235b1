"""Whose settings a request has: its own, the command's, the checkpoint's, diffusers' - in that order, and said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints import resolve
from ddim_core.checkpoints.recommended import FIELDS, RECOMMENDED
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import Size
from ddim_core.errors import CheckpointError
from producer.requests.advice import advice_on
from producer.requests.model import Model, read_model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker
from producer.runs.estimate import estimate_text, estimated
from producer.runs.options import RunOptions
from producer.runs.recommendation import with_recommended, without_recommended
from producer.runs.submission import prepared, workload_of

SHAPES = read_model("shapes")
PICTURE = str(Path(__file__).parents[4] / "examples" / "orange-circle.png")


def request(fields: Mapping[str, Any], model: Model = SHAPES, **given: Any) -> Request:
    """Return the one request of a run."""
    options, model = with_recommended(RunOptions(out="x", defaults=given), model)
    return RequestChecker(model, options.defaults).check(Row("p.jsonl", 1, {"prompt": "a star", **fields}))


def used(made: Request) -> tuple[int, float, float]:
    return made.num_inference_steps, made.guidance_scale, made.guidance_rescale


def test_the_model_comes_after_the_row_and_the_command() -> None:
    """And before diffusers' defaults."""
    assert used(request({})) == (20, 2.0, 0.7)
    assert used(request({}, guidance_scale=4.0)) == (20, 4.0, 0.7)
    assert used(request({"guidance_scale": 3.0, "guidance_rescale": 0.0}, guidance_scale=4.0)) == (20, 3.0, 0.0)


NUMBERS = {
    "num_inference_steps": st.integers(1, 30),
    "guidance_scale": st.floats(0, 9),
    "eta": st.sampled_from([0.0, 1.0]),
}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(*(st.fixed_dictionaries({}, optional=NUMBERS) for _ in range(3)))
def test_each_field_is_that_of_the_first_who_gives_it(
    row: dict[str, Any], given: dict[str, Any], recommended: dict[str, Any]
) -> None:
    """Whatever each of the three gives."""
    model = Model("m", "d", SHAPES.schedule, 8, 64, 64, recommended=recommended)
    made = request(row, model, **given)
    standard = {"num_inference_steps": 50, "guidance_scale": 7.5, "eta": 0.0}
    assert {name: getattr(made, name) for name in standard} == {**standard, **recommended, **given, **row}


def test_parameters_of_the_scheduler_are_recommended_one_by_one() -> None:
    """As a row's are laid over the command's."""
    model = Model(
        "m", "d", SHAPES.schedule, 8, 64, 64, recommended={"scheduler": {"steps_offset": 0, "clip_sample": True}}
    )
    made = request({"scheduler": {"clip_sample": False}}, model, scheduler={"steps_offset": 1})
    assert made.scheduler == {"steps_offset": 1, "clip_sample": False}
    _, left = with_recommended(RunOptions(out="x", defaults={"scheduler": {"steps_offset": 1}}), model)
    assert left.recommended == {"scheduler": {"clip_sample": True}}


def test_a_plan_holds_them_so_that_an_extension_has_the_same(tmp_path: Path) -> None:
    """Also if the checkpoint's file changes in between; a plan that an earlier version made has none of them."""
    row = Row("p.jsonl", 1, {"prompt": "a star"})
    with prepared([row], "p.jsonl", RunOptions(out=str(tmp_path), defaults={"eta": 1.0})) as run:
        kept = {name: value for name, value in run.plan.defaults.items() if name in FIELDS}
        assert kept == {"num_inference_steps": 20, "guidance_scale": 2.0, "guidance_rescale": 0.7, "eta": 1.0}
    with prepared([row], "p.jsonl", RunOptions(out=str(tmp_path), settings="diffusers")) as run:
        assert not set(FIELDS) & set(run.plan.defaults)
        assert run.spool.workload.advice.recommended == {}
    assert used(RequestChecker(without_recommended({}, SHAPES), {}).check(row)) == (50, 7.5, 0.0)


def test_a_recommended_guidance_is_none_that_an_inversion_was_given(tmp_path: Path) -> None:
    """It has 1 unless somebody names another, since with more the way down leaves the way up."""
    row = Row("p.jsonl", 1, {"prompt": "a circle", "invert": {"image": PICTURE}})

    def guidance(**defaults: Any) -> float:
        with prepared([row], "p.jsonl", RunOptions(out=str(tmp_path), defaults=defaults)) as run:
            (*_, line), *_ = run.spool.lines()
            return float(json.loads(line).get("guidance_scale", 7.5))

    assert guidance() == 1.0
    assert guidance(guidance_scale=2.0) == 2.0  # what the model recommends, but named
    assert guidance(guidance_scale=3.0) == 3.0


def test_a_plan_says_which_settings_hold_and_which_sizes_come_out_badly() -> None:
    """Once for all requests; what the command gives is no recommendation any more."""
    rows = [Row("p.jsonl", line, {"prompt": "a star", "height": 96, "width": 96}) for line in range(3)]
    options = RunOptions(out="x", defaults={"guidance_scale": 3.0})
    text = estimate_text(estimated(workload_of(rows, "p.jsonl", options), options, None, []))
    assert (
        "settings      as shapes recommends them: num_inference_steps 20, guidance_rescale 0.7, where neither" in text
    )
    assert "warning       3 images are of a size (96x96) far from 64x64, which shapes was trained for" in text
    plain = RunOptions(out="x", settings="diffusers")
    text = estimate_text(estimated(workload_of([Row("p", 1, {"prompt": "a star"})], "p", plain), plain, None, []))
    assert "settings" not in text and "warning" not in text


@pytest.mark.parametrize(
    ("height", "width", "trained", "far"),
    [
        (64, 64, 64, False),
        (72, 72, 64, False),
        (96, 64, 64, True),
        (96, 96, 64, True),
        (48, 48, 64, True),
        (512, 640, 512, False),
        (1024, 1024, 512, True),
        (832, 1216, 1024, False),
        (640, 1536, 1024, False),  # a bucket that SDXL was trained on
        (448, 2304, 1024, True),
    ],
)
def test_sizes_are_far_from_the_trained_one_where_pictures_suffer(
    height: int, width: int, trained: int, far: bool
) -> None:
    """Those of the small checkpoint were looked at; the buckets of SDXL are known."""
    model = Model("m", "d", SHAPES.schedule, 8, trained, trained)
    assert bool(advice_on(model, {Size(height, width): 1}).warnings) is far


def test_a_recommended_size_is_the_trained_one() -> None:
    """A checkpoint's configuration may hold the size of the one that it was tuned from."""
    model = Model("m", "d", SHAPES.schedule, 8, 512, 512, recommended={"height": 768, "width": 768})
    assert advice_on(model, {Size(768, 768): 2}).warnings == ()
    assert "2 images are of a size (512x512) far from 768x768" in advice_on(model, {Size(512, 512): 2}).warnings[0]


def test_a_broken_recommendation_stops_a_run_unless_it_is_left_alone(tmp_path: Path) -> None:
    """Nobody is to get other settings than the file's without a word."""
    folder = shutil.copytree(resolve("shapes"), tmp_path / "mine")
    (folder / RECOMMENDED).write_text("{")
    row = Row("p.jsonl", 1, {"prompt": "a star"})
    with pytest.raises(CheckpointError, match=rf"{RECOMMENDED} must be a JSON file"):
        workload_of([row], "p.jsonl", RunOptions(out="x", model=str(folder)))
    options = RunOptions(out="x", model=str(folder), settings="diffusers")
    assert workload_of([row], "p.jsonl", options).steps == 50
