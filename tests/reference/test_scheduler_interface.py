"""What pipelines and training scripts use of a scheduler besides its step: the same as mindone's."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from ddim_core.sampling import device  # noqa: E402 - needs MindSpore

device.start("CPU")  # before anything imports mindone
with device.quiet_import():
    from mindone.diffusers import DDIMScheduler as MindoneScheduler
    from mindone.diffusers import EulerDiscreteScheduler, PNDMScheduler
    from mindone.diffusers.configuration_utils import FrozenDict

    from ddim_core.errors import ScheduleError
    from ddim_core.sampling.scheduler import DDIMScheduler, DDIMSchedulerOutput

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

SHAPE = (2, 3, 8, 8)
TOLERANCE = 1e-5  # mindone multiplies a thousand alphas in float32

PARAMETERS: list[dict[str, Any]] = [
    {},
    {"num_train_timesteps": 1500},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": np.linspace(0.001, 0.03, 1000).tolist()},
    {"set_alpha_to_one": False},
]


def tensor(seed: int) -> Any:
    return ms.Tensor(np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32))


X, OUT, Z = tensor(1), tensor(2), tensor(3)


def assert_close(actual: Any, expected: Any) -> None:
    __tracebackhide__ = True
    actual, expected = actual.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_are_mindones_for_every_step_count(spacing: str) -> None:
    """Rounding included; where mindone appends a timestep -1 to trailing, ours ends before it."""
    theirs, ours = MindoneScheduler(timestep_spacing=spacing), DDIMScheduler(timestep_spacing=spacing)
    below_zero = 0
    for steps in range(1, 1001):
        theirs.set_timesteps(steps)
        ours.set_timesteps(steps)
        expected = theirs.timesteps.asnumpy().tolist()
        below_zero += expected[-1] < 0
        assert ours.timesteps.asnumpy().tolist() == [t for t in expected if t >= 0]
    assert below_zero == (62 if spacing == "trailing" else 0)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_generator_gives_mindones_noise(seed: int) -> None:
    """With eta > 0 and no noise given, images stay those of mindone's scheduler; the generator is left where it was."""
    results = []
    for scheduler in (MindoneScheduler(), DDIMScheduler()):
        scheduler.set_timesteps(10)
        generator = np.random.default_rng(seed)
        listed = [np.random.default_rng(seed + i) for i in range(SHAPE[0])]
        one = scheduler.step(OUT, 500, X, eta=0.8, generator=generator)[0]
        each = scheduler.step(OUT, 500, X, eta=0.8, generator=listed)[0]
        results.append((one, each, generator.standard_normal()))
    assert_close(results[1][0], results[0][0])
    assert_close(results[1][1], results[0][1])
    assert results[1][2] == results[0][2]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda parameters: str(parameters)[:60])
def test_noising_and_velocity_are_mindones(parameters: dict[str, Any]) -> None:
    """Image to image starts from add_noise, and training for v-prediction from get_velocity."""
    theirs, ours = MindoneScheduler(**parameters), DDIMScheduler(**parameters)
    t = ms.Tensor([3, 997])
    for method in ("add_noise", "get_velocity"):
        assert_close(getattr(ours, method)(X, Z, t), getattr(theirs, method)(X, Z, t))
    assert_close(ours.add_noise(X, Z, ms.Tensor(3)), theirs.add_noise(X, Z, ms.Tensor(3)))


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda parameters: str(parameters)[:60])
def test_attributes_are_mindones(parameters: dict[str, Any]) -> None:
    """Pipelines and training scripts read these."""
    theirs, ours = MindoneScheduler(**parameters), DDIMScheduler(**parameters)
    for name in ("alphas_cumprod", "alphas", "betas", "final_alpha_cumprod", "timesteps"):
        actual, expected = getattr(ours, name), getattr(theirs, name)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), name
        assert_close(actual, expected)
    for name in ("init_noise_sigma", "order", "num_inference_steps", "config_name"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs)


def test_noising_keeps_float16() -> None:
    """Training in half precision; the arithmetic is float32."""
    half = DDIMScheduler().add_noise(X.astype(ms.float16), Z.astype(ms.float16), ms.Tensor([3, 997]))
    assert half.dtype == ms.float16
    full = DDIMScheduler().add_noise(X, Z, ms.Tensor([3, 997]))
    np.testing.assert_allclose(half.asnumpy(), full.asnumpy(), atol=4e-3)  # float16 has 11 bits


def test_the_defaults_and_the_config_are_mindones_with_two_names_more() -> None:
    """A configuration carries over in both directions."""
    ours, theirs = dict(DDIMScheduler().config), dict(MindoneScheduler().config)
    assert (ours.pop("timestep_pairs"), ours.pop("variance")) == ("diffusers", "ddim")
    for config in (ours, theirs):
        config.pop("_use_default_values")
    assert ours == theirs


def test_a_saved_scheduler_is_read_back_by_both(tmp_path: Path) -> None:
    """save_pretrained writes the scheduler_config.json that from_pretrained of either class reads."""
    saved = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False, timestep_pairs="visited")
    saved.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert written["_class_name"] == "DDIMScheduler"
    ours, theirs = DDIMScheduler.from_pretrained(tmp_path), MindoneScheduler.from_pretrained(tmp_path)
    assert ours.config.timestep_pairs == "visited"
    for scheduler in (ours, theirs):
        assert (scheduler.config.beta_schedule, scheduler.config.steps_offset) == ("scaled_linear", 1)
        assert scheduler.config.clip_sample is False


@pytest.mark.parametrize("origin", [MindoneScheduler, PNDMScheduler, EulerDiscreteScheduler])
def test_from_config_takes_any_schedulers_config_with_changes(origin: Any) -> None:
    """The line that Lin et al.'s fix needs: swap the scheduler of a pipeline, with two parameters changed."""
    theirs = origin(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction")
    ours = DDIMScheduler.from_config(theirs.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    assert (ours.config.beta_schedule, ours.config.beta_end) == ("scaled_linear", 0.012)
    assert (ours.config.rescale_betas_zero_snr, ours.config.timestep_spacing) == (True, "trailing")
    ours.set_timesteps(10)
    assert np.isfinite(ours.step(OUT, ours.timesteps[0], X, eta=1.0, variance_noise=Z)[0].asnumpy()).all()
    assert origin.from_config(ours.config).config.beta_end == 0.012


def test_compatibles_are_mindones() -> None:
    """What ``pipe.scheduler.compatibles`` offers."""
    assert set(DDIMScheduler().compatibles) == set(MindoneScheduler().compatibles)


def test_a_config_that_a_pipeline_changed_counts_from_the_next_set_timesteps() -> None:
    """Stable Diffusion's constructor puts steps_offset=1 and clip_sample=False into the config it was given."""
    scheduler = DDIMScheduler()
    scheduler._internal_dict = FrozenDict({**scheduler.config, "steps_offset": 1, "clip_sample": False})
    scheduler.set_timesteps(10)
    expected = DDIMScheduler(steps_offset=1, clip_sample=False)
    expected.set_timesteps(10)
    assert scheduler.timesteps.asnumpy().tolist() == expected.timesteps.asnumpy().tolist()
    assert (scheduler.step(OUT, 901, X)[1].asnumpy() == expected.step(OUT, 901, X)[1].asnumpy()).all()


def test_a_copied_scheduler_steps_alike_and_apart() -> None:
    """Pipelines deep-copy schedulers; the copy's step count is its own."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    copied = copy.deepcopy(scheduler)
    before = scheduler.step(OUT, 500, X)[0].asnumpy()
    assert (copied.step(OUT, 500, X)[0].asnumpy() == before).all()
    copied.set_timesteps(50)
    assert (scheduler.step(OUT, 500, X)[0].asnumpy() == before).all()
    assert not (copied.step(OUT, 500, X)[0].asnumpy() == before).all()


def test_the_output_is_a_tuple_unless_asked_for_the_output_class() -> None:
    """return_dict is False by default in mindone, not True as in diffusers."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    plain = scheduler.step(OUT, 500, X)
    named = scheduler.step(OUT, 500, X, return_dict=True)
    assert isinstance(plain, tuple)
    assert isinstance(named, DDIMSchedulerOutput)
    assert (named.prev_sample.asnumpy() == plain[0].asnumpy()).all()
    assert (named.pred_original_sample.asnumpy() == plain[1].asnumpy()).all()


def test_model_input_is_not_scaled() -> None:
    """DDIM's x_t goes to the denoiser as it is."""
    assert DDIMScheduler().scale_model_input(X, 500) is X


def test_a_step_before_set_timesteps_is_refused() -> None:
    """As in mindone, a ValueError."""
    with pytest.raises(
        ScheduleError, match="num_inference_steps must be set before a step, got None; call set_timesteps"
    ):
        DDIMScheduler().step(OUT, 500, X)


def test_generator_and_noise_together_are_refused() -> None:
    """As in mindone, a ValueError; without noise to add neither is looked at."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    both = {"generator": np.random.default_rng(0), "variance_noise": Z}
    with pytest.raises(ScheduleError, match="generator and variance_noise must not be given together"):
        scheduler.step(OUT, 500, X, eta=1.0, **both)
    scheduler.step(OUT, 500, X, eta=0.0, **both)


@pytest.mark.parametrize("eta", [-0.5, 1.5, float("nan")])
def test_an_eta_out_of_range_is_refused(eta: float) -> None:
    """Mindone returns NaN."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(ScheduleError, match=r"eta must be a number in \[0, 1\]"):
        scheduler.step(OUT, 500, X, eta=eta)


def test_a_step_count_that_is_refused_leaves_the_scheduler_as_it_was() -> None:
    """A caller who catches the error can go on with the steps set before."""
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    before = scheduler.step(OUT, 500, X)[0].asnumpy()
    with pytest.raises(ScheduleError, match="num_inference_steps must be a whole number from 1 to 1000, got 1001"):
        scheduler.set_timesteps(1001)
    assert scheduler.num_inference_steps == 10
    assert (scheduler.step(OUT, 500, X)[0].asnumpy() == before).all()
