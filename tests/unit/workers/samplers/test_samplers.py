"""One checkpoint at a time on a device."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial

import pytest

from ddim_core.contracts.limits import Limits
from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.sample import BatchShape, Size
from ddim_core.errors import CheckpointError, DeviceError
from tests.unit.workers.samples import ScriptedSampler, loaded, plan
from workers.samplers.samplers import Load, LoadedSampler, Samplers


class Loader:
    """Loads scripted samplers and remembers them."""

    def __init__(self) -> None:
        self.samplers: dict[str, ScriptedSampler] = {}

    def __call__(self, model: ModelRef) -> Load:
        """Find, unless the name says that there is nothing."""
        if model.name == "missing":
            raise CheckpointError("checkpoint missing must be here")
        return partial(self.load, model)

    def load(self, model: ModelRef) -> LoadedSampler:
        """Load what was found."""
        self.samplers[model.digest] = ScriptedSampler()
        return loaded(self.samplers[model.digest])


def model(digest: str, name: str = "m") -> ModelRef:
    """Return a reference to a checkpoint."""
    return ModelRef(name=name, digest=digest, scheduler={})


def test_chunks_of_one_checkpoint_share_its_sampler() -> None:
    """It is loaded once."""
    samplers = Samplers(Loader())
    with samplers.use(model("a")) as one, samplers.use(model("a")) as two:
        assert one is two


def test_that_a_checkpoint_is_being_loaded_is_logged_before_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """It takes half a minute or more, in which a worker would seem to do nothing."""
    logged: list[list[str]] = []

    def load() -> LoadedSampler:
        logged.append([vars(record)["action"] for record in caplog.records])
        return loaded(ScriptedSampler())

    with caplog.at_level(logging.INFO), Samplers(lambda _: load).use(model("a")):
        logged.append([vars(record)["action"] for record in caplog.records])
    assert logged == [["checkpoint_loading"], ["checkpoint_loading", "checkpoint_ready"]]


def test_another_checkpoint_waits_until_the_first_is_no_longer_used() -> None:
    """Then the first is closed, and its memory is free."""
    loader = Loader()
    samplers = Samplers(loader)
    order: list[str] = []

    def other() -> None:
        with samplers.use(model("b")):
            order.append("b")

    with samplers.use(model("a")):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        order.append("a")
    thread.join()
    assert order == ["a", "b"]
    assert loader.samplers["a"].closed and not loader.samplers["b"].closed


def test_a_sampler_lent_alone_is_lent_to_nobody_else() -> None:
    """It waits until it is free, goes before those who would share it, and they wait until it is back."""
    samplers = Samplers(Loader())
    order: list[str] = []

    def borrow(name: str, *, alone: bool) -> None:
        with samplers.use(model("a"), alone=alone):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    threads = [
        threading.Thread(target=borrow, args=["alone"], kwargs={"alone": True}),
        threading.Thread(target=borrow, args=["shared"], kwargs={"alone": False}),
    ]
    with samplers.use(model("a")):
        threads[0].start()
        while not samplers._waiting_alone:
            time.sleep(0.001)
        threads[1].start()
        time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == ["alone", "alone", "shared", "shared"]


def test_a_checkpoint_that_is_not_here_leaves_the_one_that_is_loaded() -> None:
    """Runs that cannot be made must not cost the others their compiled graphs."""
    samplers = Samplers(Loader())
    with samplers.use(model("a")) as before:
        pass
    with pytest.raises(CheckpointError), samplers.use(model("x", "missing")):
        pass
    with samplers.use(model("a")) as after:
        assert after is before


def test_a_device_that_fails_while_loading_leaves_the_way_free() -> None:
    """For the next chunk, of this checkpoint or another."""
    failures = [DeviceError("lost")]

    def load() -> LoadedSampler:
        if failures:
            raise failures.pop()
        return loaded(ScriptedSampler())

    samplers = Samplers(lambda _: load)
    with pytest.raises(DeviceError), samplers.use(model("a")):
        pass
    with samplers.use(model("a")) as one:
        assert one.facts.slots == 2


def test_warming_up_lasts_as_long_as_loading_and_compiling_do() -> None:
    """Whoever watches a run sees why there is no image yet; a failure ends it, too."""
    seen: list[bool] = []

    class Compiling(ScriptedSampler):
        def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool = False, inverting: bool = False) -> None:
            seen.append(samplers.is_warming_up)
            raise DeviceError("lost")

    def load() -> LoadedSampler:
        seen.append(samplers.is_warming_up)
        return loaded(Compiling())

    samplers = Samplers(lambda _: load)
    with samplers.use(model("a")) as one:
        seen.append(samplers.is_warming_up)
        with pytest.raises(DeviceError):
            samplers.prepare(one, plan(1))
    assert [*seen, samplers.is_warming_up] == [True, False, True, False]


def test_nothing_is_compiled_for_sizes_beyond_the_operators_limits() -> None:
    """A plan may list any; its images of those sizes are failed rows, and the others wait for no graph of theirs."""
    samplers = Samplers(Loader())
    sampler = ScriptedSampler()
    run = plan(1).model_copy(update={"sizes": ("64x32", "8192x8192")})
    samplers.prepare(loaded(sampler), run, Limits(max_side_px=64))
    samplers.prepare(loaded(sampler), run)
    small, large = BatchShape(Size(32, 64)), BatchShape(Size(8192, 8192))
    assert [shapes for shapes, _ in sampler.prepared] == [(small,), (small, large)]


def test_closing_stops_the_sampler() -> None:
    """Without one there is nothing to count."""
    loader = Loader()
    samplers = Samplers(loader)
    assert samplers.counters().steps == 0
    with samplers.use(model("a")):
        assert samplers.counters().steps == 4
    samplers.close()
    assert loader.samplers["a"].closed
