"""The producer in Python: submit runs, follow them, read what they made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ddim_core.contracts.plan import Container, RunPlan
from ddim_core.contracts.record import Record
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from producer.broker import BROKER_VARIABLE, Broker
from producer.planning import RunOptions
from producer.progress import RunProgress, RunStatus, patient
from producer.rows import Row
from producer.submission import cancel, resume, submit
from producer.verify import RunCheck, RunFault

_POLL_S = 1.0


class Client:
    """A broker to submit runs on.

    Example:
        >>> run = Client("redis://queue.example:6379/0").submit([{"prompt": "a red circle"}], out="s3://bucket/circles")
        >>> run.wait().images_made
        1
    """

    def __init__(self, broker_url: str | None = None, *, queue: str | None = None) -> None:
        """Name the broker; the default is what ``DDIM_FLEET_BROKER`` names, or else ``redis://127.0.0.1:6379/0``.

        Raises:
            InputError: The URL is none that Redis has.
        """
        self._broker = Broker(broker_url or os.environ.get(BROKER_VARIABLE), queue)

    # Options are spelled out, because editors and help() then know them; RunOptions holds the same.
    def submit(  # noqa: PLR0913
        self,
        requests: Iterable[Request | Mapping[str, Any]],
        *,
        out: str,
        model: str = "shapes",
        seed: int = 0,
        container: Container = "webdataset",
        images_per_chunk: int | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> Run:
        """Check all requests, write the run to ``out`` and queue it; if anything is wrong, do neither.

        Args:
            requests: One for each line of a prompts file; a mapping has the fields of ``Request``.
            out: URL or path of the run's folder, which must not hold a run.
            model: A packaged checkpoint's name, or the path of a folder that the workers have, too.
            seed: What the seeds of requests without one follow from.
            container: Whether images go into shards or stay files of their own.
            images_per_chunk: What a worker takes at once; chosen from the number of images if None.
            defaults: Fields of requests that do not give them.

        Raises:
            RequestFaults: Requests have faults; ``line`` counts them from 1.
            InputError: The output or the checkpoint cannot be used, or the output holds a run.
            BrokerError: Redis does not answer.
        """
        options = RunOptions(
            out=out,
            model=model,
            seed=seed,
            container=container,
            images_per_chunk=images_per_chunk,
            defaults=defaults or {},
        )
        return Run(submit(_rows(requests), "requests", options, self._broker), self._broker)

    def run(self, url: str) -> Run:
        """Return the run at ``url``.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(RunFolder(url), self._broker)


class Run:
    """A run in its store."""

    def __init__(self, folder: RunFolder, broker: Broker) -> None:
        """Open the run that a folder holds.

        Raises:
            RunNotFoundError: It holds none.
        """
        self._folder, self._broker = folder, broker
        self._progress = RunProgress(folder, broker)

    @property
    def url(self) -> str:
        """The run's folder."""
        return self._folder.url

    @property
    def plan(self) -> RunPlan:
        """What the run is."""
        return self._progress.plan

    def status(self) -> RunStatus:
        """Return how far the run is; works without Redis from the store alone."""
        return self._progress.read()

    def wait(self, timeout_s: float | None = None) -> RunStatus:
        """Return the status once the run is over.

        Raises:
            TimeoutError: It is not over after ``timeout_s``.
            StorageError: The store has failed for a minute; a shorter failure is waited out.
        """
        read_patiently = patient(self.status)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (status := read_patiently()) is None or not status.is_over:
            if deadline is not None and time.monotonic() >= deadline:
                state = status.state if status else "no answer from the store"
                raise TimeoutError(f"the run must be over within {timeout_s:g} s, got {state} at {self.url}")
            time.sleep(_POLL_S)
        return status

    def records(self) -> Iterator[Record]:
        """Yield the rows of the chunks that are done, in the order of their keys; failed images are among them."""
        return self._folder.records()

    def verify(self) -> list[RunFault]:
        """Return what is wrong with the finished run, image by image and file by file; nothing if it is sound.

        Raises:
            RunUnfinishedError: It has no manifest yet.
            StorageError: The store failed.
        """
        return list(RunCheck(self._folder).faults())

    def cancel(self) -> bool:
        """Have the workers stop, keeping what is finished; return whether there was anything left to stop.

        Works without Redis; ``resume`` goes on.
        """
        return cancel(self._folder)

    def resume(self) -> int:
        """Queue what is missing, and return how many chunks that was.

        Raises:
            BrokerError: Redis does not answer.
        """
        return resume(self._folder, self._broker)


def _rows(requests: Iterable[Request | Mapping[str, Any]]) -> Iterator[Row]:
    for number, request in enumerate(requests, start=1):
        fields = request.model_dump(exclude_unset=True) if isinstance(request, Request) else request
        yield Row("requests", number, {name: value for name, value in fields.items() if value is not None})
