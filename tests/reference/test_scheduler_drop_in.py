"""One of ours in the place of one of mindone's: pipelines that look at its class, make it anew, save or change it."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from ddim_core.sampling import device  # noqa: E402 - needs MindSpore

device.start("CPU")  # before anything imports mindone
with device.quiet_import(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mindone.diffusers import DDIMPipeline, DDIMScheduler, EulerDiscreteScheduler, LCMScheduler, PNDMScheduler
    from mindone.diffusers import StableDiffusionPipeline as TextToImage

    from ddim_core.checkpoints import describe, resolve
    from ddim_core.errors import ScheduleError
    from ddim_core.sampling.scheduler import DDIMScheduler as Ours
    from ddim_core.schedule import ScheduleConfig, step_table
    from tests.tiny_checkpoints import write_unconditional

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

QUAD = {"timestep_spacing": "quad", "timestep_pairs": "visited"}
SHAPE = (2, 3, 8, 8)


def tensor(seed: int) -> Any:
    return ms.Tensor(np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32))


X, OUT, Z = tensor(1), tensor(2), tensor(3)


def test_it_is_one_of_mindones() -> None:
    """LEdits++ and Bria ask with isinstance, and put another scheduler in its place otherwise."""
    assert isinstance(Ours(), DDIMScheduler)


@pytest.mark.parametrize(
    ("t", "previous", "variance"),
    [(0, 0, 0.0), (420, 400, 0.14771), (980, 960, 0.3246), (487, 486, 0.00979), (999, 998, 0.02)],
)
def test_the_variance_is_that_of_diffusers(t: int, previous: int, variance: float) -> None:
    """The values of diffusers' own test; as a number, a tensor, or one for each sample."""
    scheduler = Ours(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    assert float(scheduler._get_variance(t, previous)) == pytest.approx(variance, abs=1e-5)
    both = scheduler._get_variance(ms.Tensor([t, t]), ms.Tensor([previous, previous])).asnumpy()
    assert both == pytest.approx([variance] * 2, abs=1e-5)
    assert scheduler._get_variance(ms.Tensor(t), ms.Tensor(previous)).shape == ()


@pytest.mark.parametrize("set_alpha_to_one", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_variance_is_sigma_squared_of_every_step(schedule: str, set_alpha_to_one: bool) -> None:
    """To float32, which mindone's difference of two numbers close to 1 is not."""
    config = ScheduleConfig(beta_schedule=schedule, set_alpha_to_one=set_alpha_to_one)
    table = step_table(config, 50, 1.0)
    scheduler = Ours(beta_schedule=schedule, set_alpha_to_one=set_alpha_to_one)
    variance = scheduler._get_variance(ms.Tensor(table.timesteps), ms.Tensor(table.timesteps - 20)).asnumpy()
    np.testing.assert_allclose(variance, table.sigma**2, rtol=3e-6, atol=1e-7)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_unconditional(tmp_path_factory.mktemp("unconditional"))


def load(pipeline: Any, folder: Path, **options: Any) -> Any:
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = pipeline.from_pretrained(str(folder), use_safetensors=True, local_files_only=True, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe: Any, **options: Any) -> Any:
    return pipe(num_inference_steps=4, generator=np.random.default_rng(0), output_type="np", **options)[0]


def test_a_pipeline_that_makes_its_scheduler_anew_keeps_ours(pixels: Path) -> None:
    """DDIMPipeline does; mindone's scheduler knows no quad, and would step to other timesteps without an error."""
    unet = load(DDIMPipeline, pixels).unet
    kept = DDIMPipeline(unet, Ours(**QUAD, clip_sample=True))
    assert type(kept.scheduler) is Ours
    assert (kept.scheduler.config.timestep_spacing, kept.scheduler.config.timestep_pairs) == ("quad", "visited")
    kept.set_progress_bar_config(disable=True)
    put = load(DDIMPipeline, pixels)
    put.scheduler = Ours(**QUAD, clip_sample=True)
    assert (picture(kept) == picture(put)).all()
    assert kept.scheduler.timesteps.asnumpy().tolist() == [800, 355, 88, 0]
    assert type(DDIMPipeline(unet, DDIMScheduler()).scheduler) is DDIMScheduler


def test_a_saved_pipeline_is_read_by_everyone(pixels: Path, tmp_path: Path) -> None:
    """Its index names the class as diffusers does, and where ours is imported, it is ours again."""
    pipe = load(DDIMPipeline, pixels)
    pipe.scheduler = Ours.from_config(pipe.scheduler.config, **QUAD)
    with device.quiet_import():
        pipe.save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "model_index.json").read_text())["scheduler"] == ["diffusers", "DDIMScheduler"]
    again = load(DDIMPipeline, tmp_path)
    assert type(again.scheduler) is Ours
    assert again.scheduler.config.timestep_spacing == "quad"
    assert (picture(again) == picture(pipe)).all()
    assert describe(tmp_path).schedule.timestep_spacing == "quad"


def saved_without(names: set[str], tmp_path: Path, scheduler: Any) -> Any:
    """Return the scheduler of a text-to-image pipeline whose scheduler's file does not mention the names."""
    folder = tmp_path / "scheduler"
    scheduler.save_pretrained(str(folder))
    file = folder / "scheduler_config.json"
    config = {name: value for name, value in json.loads(file.read_text()).items() if name not in names}
    file.write_text(json.dumps(config))
    loaded = type(scheduler).from_pretrained(str(folder))
    parts = load(TextToImage, resolve("shapes"), safety_checker=None).components
    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TextToImage(**{**parts, "scheduler": loaded}, requires_safety_checker=False).scheduler


@pytest.mark.parametrize("theirs", [DDIMScheduler, PNDMScheduler], ids=lambda theirs: theirs.__name__)
def test_what_a_pipeline_forced_stays_in_force(theirs: Any, tmp_path: Path) -> None:
    """Old files of Stable Diffusion say nothing of clipping; mindone's from_config forgets what the pipeline set."""
    changed = saved_without({"clip_sample", "steps_offset"}, tmp_path, theirs(beta_schedule="scaled_linear"))
    ours = Ours.from_config(changed.config, timestep_spacing="trailing", clip_sample=False)
    assert (ours.config.clip_sample, ours.config.steps_offset) == (False, 1)
    assert theirs.from_config(changed.config).config.steps_offset == 0, "mindone keeps it now: ours need not"
    if theirs is DDIMScheduler:
        assert Ours.from_config(changed.config).config.clip_sample is False
        assert theirs.from_config(changed.config).config.clip_sample is True


@pytest.mark.parametrize("theirs", [DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler, LCMScheduler])
def test_what_nobody_changed_has_ddims_defaults(theirs: Any, tmp_path: Path) -> None:
    """As mindone does it: each class has defaults of its own."""
    theirs().save_pretrained(str(tmp_path))
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": theirs.__name__, "beta_end": 0.03}))
    config = theirs.from_pretrained(str(tmp_path)).config
    ours, mindones = dict(Ours.from_config(config).config), dict(DDIMScheduler.from_config(config).config)
    assert {name: ours[name] for name in mindones if name[0] != "_"} == {
        name: value for name, value in mindones.items() if name[0] != "_"
    }


def test_an_attribute_of_the_configuration_that_a_pipeline_sets_counts() -> None:
    """LEdits++ writes ``scheduler.config.timestep_spacing = "leading"``, which the mapping does not show."""
    scheduler = Ours(timestep_spacing="trailing")
    scheduler.config.timestep_spacing = "leading"
    scheduler.set_timesteps(10)
    assert scheduler.timesteps.asnumpy().tolist() == list(range(900, -1, -100))


def test_it_can_be_copied_and_pickled() -> None:
    """It says that it is mindone's to whoever asks the object, not to Python, which looks for the class."""
    scheduler = Ours(**QUAD)
    assert type(copy.deepcopy(scheduler)) is Ours
    assert type(copy.copy(scheduler)) is Ours
    assert pickle.loads(pickle.dumps(Ours)) is Ours


@pytest.mark.parametrize("clipped", [False, True])
def test_the_larger_variance_is_the_authors(clipped: bool) -> None:
    """Ho et al.'s posterior mean of a clipped x0, the variance 1 - a_t / a_prev, and no noise on the last step."""
    scheduler = Ours(variance="larger", clip_sample=clipped)
    scheduler.set_timesteps(10)
    curve = scheduler.alphas_cumprod.asnumpy().astype(np.float64)
    x, out, z = (each.asnumpy().astype(np.float64) for each in (X, OUT, Z))
    for t in (900, 500, 100, 0):
        options = {"eta": 1.0, "variance_noise": Z, "use_clipped_model_output": clipped}
        actual = scheduler.step(OUT, t, X, **options)[0].asnumpy()
        a_t, a_prev = curve[t], curve[t - 100] if t else 1.0
        x0 = (x - (1 - a_t) ** 0.5 * out) / a_t**0.5
        x0 = x0.clip(-1, 1) if clipped else x0
        beta = 1 - a_t / a_prev
        mean = (a_prev**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - a_prev) * x) / (1 - a_t)
        expected = mean + (beta**0.5 * z if t else 0)
        np.testing.assert_allclose(actual, expected, atol=2e-5 * np.abs(expected).max())
    with pytest.raises(ScheduleError, match="eta must be 1 with variance=larger, got 0"):
        scheduler.step(OUT, 500, X)
