"""The compiled step in the engine's hands, against the formulas of the papers in float64, for an analytic denoiser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from mindspore import Tensor, nn, ops  # noqa: E402 - needs MindSpore

from ddim_core.contracts.sample import SampleSpec  # noqa: E402
from ddim_core.errors import SampleError  # noqa: E402
from ddim_core.sampling.bucket import Sample  # noqa: E402
from ddim_core.sampling.drawing import page_steps  # noqa: E402
from ddim_core.sampling.engine import Engine  # noqa: E402
from ddim_core.sampling.noise import initial_noise, step_noise  # noqa: E402
from ddim_core.sampling.runner import DeviceRunner, Job  # noqa: E402
from ddim_core.schedule import ScheduleConfig, alpha_bar, timesteps  # noqa: E402

pytestmark = [pytest.mark.mindspore, pytest.mark.usefixtures("cpu")]

Array = np.ndarray[Any, Any]

NUM_LANES = 6
TEXT_SHAPE = (3, 2)
VAE_FACTOR = 8

# Each step rounds sums of float32 terms, relative to the largest of them; x0 from eps at t = 999 multiplies by 157.
TOLERANCE = 5e-5


class _Wave(nn.Cell):
    """A smooth function of all that a denoiser is given, which NumPy can compute too."""

    def construct(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        phase = timestep.reshape(-1, 1, 1, 1) * 0.003 + text.mean((1, 2)).reshape(-1, 1, 1, 1)
        return ops.sin(x * 0.7 + phase) * 0.8


def wave(x: Array, timestep: int, text: Array) -> Array:
    return np.sin(x * 0.7 + timestep * 0.003 + text.mean(dtype=np.float64)) * 0.8


class _WaveModel:
    """What the runner needs of a checkpoint."""

    def __init__(self) -> None:
        self.denoiser = _Wave()

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 4, height // VAE_FACTOR, width // VAE_FACTOR


@pytest.fixture(scope="module")
def runner(cpu: None) -> Iterator[DeviceRunner]:
    """One runner for all tests: its graphs compile once."""
    runner = DeviceRunner(_WaveModel())
    yield runner
    runner.reset()


BASE = SampleSpec(
    prompt="a",
    negative_prompt="",
    seed=7,
    image_index=0,
    num_inference_steps=6,
    guidance_scale=4.0,
    guidance_rescale=0.0,
    eta=0.0,
    height=64,
    width=48,
    schedule=ScheduleConfig(clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing"),
)


def text_of(prompt: str) -> Array:
    seed = sum(prompt.encode())
    return np.random.default_rng(seed).standard_normal(TEXT_SHAPE).astype(np.float32)


def sample_of(spec: SampleSpec) -> Sample[Job]:
    job = Job(spec, (Tensor(text_of(spec.prompt)),), (Tensor(text_of(spec.negative_prompt)),))
    return job.sample((spec.height, spec.width))


def run(runner: DeviceRunner, specs: list[SampleSpec]) -> list[Array]:
    """Return the x_0 of every spec, made together."""
    runner.reset()
    engine: Engine[Job, Tensor] = Engine(runner, NUM_LANES)
    samples = [sample_of(spec) for spec in specs]
    for sample in samples:
        engine.submit(sample)
    results = {}
    while engine.waiting or engine.running:
        for finished in engine.step():
            assert finished.error is None
            results[finished.sample] = finished.result.asnumpy()
    return [results[sample] for sample in samples]


def formula(spec: SampleSpec) -> Array:
    """DDIM (https://arxiv.org/abs/2010.02502) as its equations read, one sample, float64."""
    shape = (4, spec.height // VAE_FACTOR, spec.width // VAE_FACTOR)
    config = spec.schedule
    alphas, total = alpha_bar(config), config.num_train_timesteps
    x = initial_noise(spec.seed, spec.image_index, shape).astype(np.float64)
    for index, t in enumerate(timesteps(config, spec.num_inference_steps)):
        before = t - total // spec.num_inference_steps
        a_t = alphas[t]
        a_prev = alphas[before] if before >= 0 else (1.0 if config.set_alpha_to_one else alphas[0])
        x0, eps = predict(config.prediction_type, x, guided_wave(spec, x, t), a_t)
        if config.thresholding:
            s = np.quantile(np.abs(x0), config.dynamic_thresholding_ratio)
            s = min(max(s, 1.0), config.sample_max_value)
            x0 = np.clip(x0, -s, s) / s
        elif config.clip_sample:
            x0 = np.clip(x0, -config.clip_sample_range, config.clip_sample_range)
        sigma = spec.eta * np.sqrt((1 - a_prev) / (1 - a_t)) * np.sqrt(1 - a_t / a_prev)  # Eq. (16)
        direction = np.sqrt(max(1 - a_prev - sigma**2, 0.0)) * eps
        x = np.sqrt(a_prev) * x0 + direction  # Eq. (12)
        if spec.eta > 0:
            x = x + sigma * step_noise(spec.seed, spec.image_index, index, shape)
    return x


def guided_wave(spec: SampleSpec, x: Array, t: int) -> Array:
    conditional = wave(x, t, text_of(spec.prompt))
    if spec.guidance_scale <= 1:
        return conditional
    unconditional = wave(x, t, text_of(spec.negative_prompt))
    guided = unconditional + spec.guidance_scale * (conditional - unconditional)
    rescaled = guided * conditional.std() / guided.std()
    return spec.guidance_rescale * rescaled + (1 - spec.guidance_rescale) * guided


def predict(prediction_type: str, x: Array, out: Array, a_t: float) -> tuple[Array, Array]:
    signal, noise = np.sqrt(a_t), np.sqrt(1 - a_t)
    if prediction_type == "epsilon":
        return (x - noise * out) / signal, out
    if prediction_type == "sample":
        return out, (x - signal * out) / noise
    return signal * x - noise * out, signal * out + noise * x


def with_schedule(**changes: Any) -> SampleSpec:
    return replace(BASE, schedule=replace(BASE.schedule, **changes))


ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
VARIETY: dict[str, SampleSpec] = {
    "v_prediction": BASE,
    "epsilon": with_schedule(prediction_type="epsilon"),
    "sample": with_schedule(prediction_type="sample"),
    "leading": with_schedule(timestep_spacing="leading", steps_offset=1),
    "linspace": with_schedule(timestep_spacing="linspace", set_alpha_to_one=False),
    "zero terminal SNR": with_schedule(**ZERO_SNR),
    "clipped": with_schedule(clip_sample=True, clip_sample_range=0.8, prediction_type="epsilon"),
    "thresholded": with_schedule(thresholding=True, sample_max_value=1.5, prediction_type="epsilon"),
    "thresholded low": with_schedule(thresholding=True, dynamic_thresholding_ratio=0.7, sample_max_value=3.0),
    "eta 0.5": replace(BASE, eta=0.5),
    "eta 1, zero terminal SNR": replace(with_schedule(**ZERO_SNR), eta=1.0, num_inference_steps=10),
    "noise of four pages": replace(BASE, eta=0.3, num_inference_steps=100),
    "noise of two pages": replace(BASE, eta=1.0, num_inference_steps=33, guidance_scale=1.0),
    "no guidance": replace(BASE, guidance_scale=1.0),
    "strong guidance": replace(BASE, guidance_scale=9.0, negative_prompt="b"),
    "rescaled guidance": replace(BASE, guidance_rescale=0.7),
    "rescale without guidance": replace(BASE, guidance_scale=1.0, guidance_rescale=0.7),
    "one step": replace(BASE, num_inference_steps=1),
    "thirty steps": replace(BASE, num_inference_steps=30),
    "other seed": replace(BASE, seed=2**63 - 1, image_index=3),
}


@pytest.mark.parametrize("name", VARIETY)
def test_a_sample_follows_the_equations(runner: DeviceRunner, name: str) -> None:
    """What the graph computes in float32 from the bank's rows is DDIM, whatever the options."""
    expected = formula(VARIETY[name])
    [result] = run(runner, [VARIETY[name]])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max()))


def test_every_option_in_one_batch_gives_the_bytes_of_a_sample_alone(runner: DeviceRunner) -> None:
    """Neighbours, lane and order of admission must not show in a result: the same request, the same picture."""
    alone = {name: run(runner, [spec])[0].tobytes() for name, spec in VARIETY.items()}
    names = list(VARIETY)
    for order in (names, names[::-1], names[7:] + names[:7]):
        together = run(runner, [VARIETY[name] for name in order])
        assert [name for name, x in zip(order, together, strict=True) if x.tobytes() != alone[name]] == []


def test_a_lane_at_rest_keeps_its_x(runner: DeviceRunner) -> None:
    """A finished sample's latents stay readable while its neighbours go on."""
    runner.reset()
    engine: Engine[Job, Tensor] = Engine(runner, NUM_LANES)
    engine.submit(sample_of(replace(BASE, num_inference_steps=2)))
    engine.submit(sample_of(replace(BASE, num_inference_steps=9)))
    finished = [f for _ in range(5) for f in engine.step()]
    assert finished[0].result is not None
    lanes = runner._buckets[64, 48].lanes
    assert [lanes.x(lane).asnumpy().tobytes() for lane in (0, 1)] == [finished[0].result.asnumpy().tobytes()] * 2


def test_two_shapes_take_turns_on_one_runner(runner: DeviceRunner) -> None:
    """A sample of another size waits for the batch to drain and then follows the equations like any other."""
    wide = replace(BASE, height=32, width=96, num_inference_steps=3)
    results = run(runner, [BASE, wide, BASE, wide])
    for result, spec in zip(results, [BASE, wide, BASE, wide], strict=True):
        np.testing.assert_allclose(result, formula(spec), atol=TOLERANCE)
    assert results[1].shape == (4, 4, 12)


def test_cancelling_a_sample_does_not_disturb_the_others(runner: DeviceRunner) -> None:
    """Its lanes go to rest between two steps and are used again."""
    [expected] = run(runner, [BASE])
    runner.reset()
    engine: Engine[Job, Tensor] = Engine(runner, NUM_LANES)
    cancelled, kept, later = sample_of(VARIETY["eta 0.5"]), sample_of(BASE), sample_of(replace(BASE, seed=8))
    engine.submit(cancelled)
    engine.submit(kept)
    engine.step()
    engine.cancel(cancelled)
    engine.submit(later)
    results = {f.sample: f.result for _ in range(7) for f in engine.step()}
    assert set(results) == {kept, later}
    assert results[kept].asnumpy().tobytes() == expected.tobytes()
    np.testing.assert_allclose(results[later].asnumpy(), formula(replace(BASE, seed=8)), atol=TOLERANCE)


def test_a_schedule_that_does_not_fit_fails_its_sample_alone(runner: DeviceRunner) -> None:
    """The bank's and the schedule's refusals reach the sample, and its neighbour goes on."""
    runner.reset()
    engine: Engine[Job, Tensor] = Engine(runner, NUM_LANES)
    unfit = sample_of(replace(BASE, num_inference_steps=2000))
    engine.submit(unfit)
    engine.submit(sample_of(replace(BASE, num_inference_steps=1)))
    refused, finished = engine.step()
    assert refused.sample is unfit
    assert isinstance(refused.error, SampleError)
    assert "num_inference_steps must be a whole number from 1 to 1000, got 2000" in str(refused.error)
    assert finished.error is None
    assert finished.result is not None


READS = ("asnumpy", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__", "__str__")


@pytest.fixture
def no_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when a tensor's value is read on the host: the host would wait for the device."""

    def forbid(name: str) -> Any:
        def read(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"Tensor.{name} waits for the device")

        return read

    for name in READS:
        monkeypatch.setattr(Tensor, name, forbid(name))


def steady_engine(runner: DeviceRunner, eta: float = 0.0) -> Engine[Job, Tensor]:
    """Return an engine in the midst of two long samples."""
    runner.reset()
    engine: Engine[Job, Tensor] = Engine(runner, NUM_LANES)
    engine.submit(sample_of(replace(BASE, num_inference_steps=50, eta=eta)))
    engine.submit(sample_of(replace(BASE, num_inference_steps=40, guidance_scale=1.0)))
    for _ in range(3):
        engine.step()
    return engine


def test_a_steady_step_reads_nothing_from_the_device(runner: DeviceRunner, request: pytest.FixtureRequest) -> None:
    """The host runs ahead of an asynchronous device only while it never asks for a value; admission does not either."""
    engine = steady_engine(runner, eta=0.5)
    request.getfixturevalue("no_reads")
    engine.submit(sample_of(replace(BASE, num_inference_steps=2)))
    for _ in range(5):
        engine.step()


def test_a_steady_step_sends_nothing_to_the_device(runner: DeviceRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents, pointers and coefficients are there already."""
    engine = steady_engine(runner)
    made: list[Any] = []
    monkeypatch.setattr("ddim_core.sampling.runner.Tensor", made.append)
    monkeypatch.setattr("ddim_core.sampling.step.Tensor", made.append)
    for _ in range(5):
        engine.step()
    assert made == []


def test_a_steady_step_with_noise_sends_nothing_either(runner: DeviceRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of the steps to come is there already, a page ahead of the one in use."""
    engine = steady_engine(runner, eta=0.5)
    [reader] = runner._buckets[64, 48]._reserve._readers.values()
    for _ in range(20):
        engine.step()
        if reader.pages == 2:
            break
        time.sleep(0.05)  # the next page is still being drawn
    made: list[Any] = []
    for module in ("runner", "step", "reserve"):
        monkeypatch.setattr(f"ddim_core.sampling.{module}.Tensor", made.append)
    for _ in range(5):
        engine.step()
    assert made == []
    assert reader.step < page_steps((4, 8, 6)), "these steps must be those of the first page"


@pytest.mark.parametrize("read", ["asnumpy", "item", "bool", "int", "float", "str", "numpy"])
def test_the_probe_sees_every_way_to_read(runner: DeviceRunner, request: pytest.FixtureRequest, read: str) -> None:
    """A probe that cannot fire would let the two tests above pass for nothing."""
    engine = steady_engine(runner)
    x = runner._buckets[64, 48].lanes.state[0, -1]
    ways = {
        "asnumpy": lambda: x.asnumpy(),  # noqa: PLW0108 - looked up when called, after the probe is set
        "item": lambda: x.item(),  # noqa: PLW0108
        "bool": lambda: bool(x),
        "int": lambda: int(x),
        "float": lambda: float(x),
        "str": lambda: str(x),
        "numpy": lambda: np.asarray(x),
    }
    request.getfixturevalue("no_reads")
    engine.step()
    with pytest.raises(AssertionError, match="waits for the device"):
        ways[read]()


def test_a_step_of_one_shape_compiles_once(runner: DeviceRunner) -> None:
    """New seeds, scales, step counts, schedules and eta are values in tensors, never constants of a graph."""
    from mindspore.common import api

    run(runner, [BASE, VARIETY["thresholded"]])
    compiled = set(api.ms_compile_cache)
    assert compiled
    run(runner, list(VARIETY.values()))
    assert set(api.ms_compile_cache) == compiled
