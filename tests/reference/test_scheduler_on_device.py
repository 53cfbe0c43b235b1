"""A step stays on the device: every form of timestep, every dtype, and nothing read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from ddim_core.sampling import device  # noqa: E402 - needs MindSpore

device.start("CPU")  # before anything imports mindone
with device.quiet_import():
    from mindone.diffusers import DDIMScheduler as MindoneScheduler

    from ddim_core.errors import ScheduleError
    from ddim_core.sampling.scheduler import DDIMScheduler

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

SHAPE = (3, 3, 8, 8)
BOUNDS: list[dict[str, Any]] = [{"clip_sample": False}, {}, {"thresholding": True, "sample_max_value": 1.5}]
# Through these, and nothing else in Python, a tensor's value reaches the host; bool, int and float go by ``_item``.
READS = ("asnumpy", "numpy", "item", "_item", "tolist", "get_bytes", "__array__", "__bool__", "__int__", "__float__")


class HostReadError(Exception):
    """A tensor's value was asked for on the host."""


def tensor(seed: int) -> Any:
    return ms.Tensor(np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32))


X, OUT, Z = tensor(1), tensor(2), tensor(3)


def ready(**parameters: Any) -> Any:
    scheduler = DDIMScheduler(**parameters)
    scheduler.set_timesteps(10)
    return scheduler


@contextmanager
def no_host_reads() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise HostReadError

    with pytest.MonkeyPatch.context() as patch:
        for name in READS:
            assert hasattr(ms.Tensor, name)
            patch.setattr(ms.Tensor, name, refuse)
        yield


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.asnumpy(),
        lambda t: t.item(),
        lambda t: t.tolist(),
        bool,
        int,
        float,
        range,
        np.asarray,
        str,
        lambda t: t in (1, 2),
        lambda t: [0, 1, 2][t],
    ],
)
def test_the_probe_sees_every_way_to_read_a_value(read: Callable[[Any], object]) -> None:
    """Otherwise the tests below would prove nothing."""
    with no_host_reads(), pytest.raises(HostReadError):
        read(ms.Tensor(1))


def test_the_probe_sees_what_mindones_scheduler_reads() -> None:
    """Its step compares the timestep on the host, and its thresholding computes the quantile there."""
    plain, thresholding = MindoneScheduler(), MindoneScheduler(thresholding=True)
    for scheduler in (plain, thresholding):
        scheduler.set_timesteps(10)
    with no_host_reads(), pytest.raises(HostReadError):
        plain.step(OUT, ms.Tensor(500), X)
    with no_host_reads(), pytest.raises(HostReadError):
        thresholding.step(OUT, 500, X)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("clipped", [False, True])
def test_a_step_reads_nothing_back_to_the_host(bound: dict[str, Any], eta: float, clipped: bool) -> None:
    """Reading one value waits for the device to finish all that was queued before."""
    scheduler = ready(**bound)
    each = ms.Tensor([500, 0, 999])

    def use_everything(scheduler: Any) -> None:
        for t in (500, ms.Tensor(500), each, *scheduler.timesteps):
            scheduler.step(OUT, t, X, eta=eta, use_clipped_model_output=clipped, variance_noise=Z, return_dict=True)
        scheduler.step(OUT, 500, X, eta=eta, use_clipped_model_output=clipped, generator=np.random.default_rng(0))
        scheduler.add_noise(X, Z, each)
        scheduler.get_velocity(X, Z, each)

    use_everything(scheduler)  # compiling looks at constants of the graph on the host, once
    fresh = ready(**bound)
    with no_host_reads():
        use_everything(fresh)


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_every_form_of_a_timestep_gives_the_same_step(bound: dict[str, Any], eta: float) -> None:
    """Int, NumPy int, tensors of both integer types, 0-d, one for the batch, and one for each sample."""
    scheduler = ready(**bound)
    reference = [value.asnumpy() for value in scheduler.step(OUT, 500, X, eta=eta, variance_noise=Z)]
    forms = [np.int64(500), ms.Tensor(500, ms.int32), ms.Tensor(500), ms.Tensor([500]), ms.Tensor([500] * 3)]
    for t in forms:
        for actual, expected in zip(scheduler.step(OUT, t, X, eta=eta, variance_noise=Z), reference, strict=True):
            assert (actual.asnumpy() == expected).all(), t


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_samples_at_different_timesteps_step_as_each_would_alone(bound: dict[str, Any]) -> None:
    """Each sample gets the row of its own timestep, and its own quantile."""
    scheduler = ready(**bound)
    together = [
        value.asnumpy() for value in scheduler.step(OUT, ms.Tensor([900, 437, 0]), X, eta=0.5, variance_noise=Z)
    ]
    for i, t in enumerate((900, 437, 0)):
        alone = scheduler.step(OUT, t, X, eta=0.5, variance_noise=Z)
        for row, expected in zip(together, alone, strict=True):
            assert (row[i] == expected.asnumpy()[i]).all()


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_float16_samples_are_updated_in_float32_and_stay_float16(bound: dict[str, Any]) -> None:
    """Near T x0 is 158 times a difference, which float16 coefficients would turn to noise."""
    scheduler = ready(timestep_spacing="trailing", **bound)
    half, out = X.astype(ms.float16), OUT.astype(ms.float16)
    exact = scheduler.step(out.astype(ms.float32), 999, half.astype(ms.float32), eta=0.5, variance_noise=Z)
    actual = scheduler.step(out, 999, half, eta=0.5, variance_noise=Z.astype(ms.float16))
    for mine, expected in zip(actual, exact, strict=True):
        assert mine.dtype == ms.float16
        # One rounding of the result, and one of z: float16 has 11 bits.
        np.testing.assert_allclose(mine.asnumpy(), expected.asnumpy(), rtol=1e-3, atol=2e-3)


def test_a_sample_of_any_rank_is_stepped() -> None:
    """Video latents have five dimensions, and a toy problem two."""
    scheduler = ready()
    flat = scheduler.step(OUT.reshape((3, -1)), ms.Tensor([900, 437, 0]), X.reshape((3, -1)))[0].asnumpy()
    for shape in ((3, 3, 2, 4, 8), (3, 192)):
        x_prev = scheduler.step(OUT.reshape(shape), ms.Tensor([900, 437, 0]), X.reshape(shape))[0]
        assert x_prev.shape == shape
        assert (x_prev.asnumpy().reshape(3, -1) == flat).all()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.995, 1.0])
@pytest.mark.parametrize("size", [1, 2, 7, 192])
def test_the_quantile_on_the_device_is_numpys(ratio: float, size: int) -> None:
    """Of a few values and of many, at both ends and between; sample prediction hands x0 through."""
    scheduler = ready(
        prediction_type="sample", thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=100.0
    )
    x0 = np.random.default_rng(size).standard_normal((4, size)).astype(np.float32) * 5
    s = np.clip(np.quantile(np.abs(x0), ratio, axis=1), 1, 100)[:, None]
    actual = scheduler.step(ms.Tensor(x0), 500, ms.Tensor(x0))[1].asnumpy()
    np.testing.assert_allclose(actual, np.clip(x0, -s, s) / s, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("t", [1000, -1, 10**6])
def test_an_int_timestep_outside_the_schedule_is_refused(t: int) -> None:
    """A ValueError like all that a scheduler refuses; mindone counts a timestep below 0 from the end without a word."""
    with pytest.raises(
        ScheduleError, match=f"timestep must be from 0 to 999, got {t}; pass one of scheduler.timesteps"
    ):
        ready().step(OUT, t, X)


@pytest.mark.parametrize("t", [1.5, "500", None])
def test_a_timestep_that_is_no_integer_is_a_type_error(t: object) -> None:
    """Nothing is rounded or parsed."""
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        ready().step(OUT, t, X)


def test_a_tensor_timestep_outside_the_schedule_gives_nan_for_its_sample_alone() -> None:
    """It cannot be refused without reading it, and must not pass for a neighbouring timestep."""
    scheduler = ready()
    x_prev = scheduler.step(OUT, ms.Tensor([1000, 500, -1]), X)[0].asnumpy()
    assert np.isnan(x_prev[[0, 2]]).all()
    assert np.isfinite(x_prev[1]).all()
    assert np.isnan(scheduler.add_noise(X, Z, ms.Tensor([1000, 500, -1])).asnumpy()).mean() == pytest.approx(2 / 3)


def test_timesteps_that_do_not_fit_the_batch_are_refused() -> None:
    """Two timesteps for three samples would be broadcast somewhere else."""
    with pytest.raises(
        ScheduleError, match=r"timestep must be one number or one for each of 3 samples, got shape \(2,\)"
    ):
        ready().step(OUT, ms.Tensor([1, 2]), X)


def test_changing_eta_at_every_step_neither_grows_without_bound_nor_goes_wrong() -> None:
    """Each eta has a table of its own on the device; the oldest make room."""
    scheduler = ready()
    first = scheduler.step(OUT, 500, X, eta=0.001, variance_noise=Z)[0].asnumpy()
    for eta in np.linspace(0.002, 1, 100):
        scheduler.step(OUT, 500, X, eta=float(eta), variance_noise=Z)
    assert len(scheduler._tables) <= 32
    assert (scheduler.step(OUT, 500, X, eta=0.001, variance_noise=Z)[0].asnumpy() == first).all()
