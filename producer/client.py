"""The producer in Python: submit runs, follow them, read what they made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, TypeAlias

from ddim_core.broker_url import named_broker
from ddim_core.contracts.image_encoding import ImageFormat, chosen_encoding
from ddim_core.contracts.limits import read_limits
from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.plan import Container, Priority, RunPlan
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError, StorageError
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.images.reader import RunReader
from producer.inputs.objects import SOURCE, rows_of
from producer.requests.long_prompts import named_options
from producer.requests.messages import got
from producer.requests.values import plain_value
from producer.runs.control import cancel, go_on, pause, resume
from producer.runs.extension import More, extend
from producer.runs.failures import FailedImage, failed_images, retry_failed
from producer.runs.options import RunOptions, Settings
from producer.runs.progress import RunProgress, RunStatus, patient
from producer.runs.submission import submit
from producer.verify import RunCheck, RunFault

Requests: TypeAlias = "Iterable[Request | Mapping[str, Any] | str] | PathLike[str]"
"""What has rows; tables, which have some too, are told by their library."""

_POLL_S = 1.0


class Client:
    """A broker to submit runs on.

    Example:
        >>> run = Client("redis://queue.example:6379/0").submit([{"prompt": "a red circle"}], out="s3://bucket/circles")
        >>> run.wait().images_made
        1
        >>> Client().run("s3://bucket/circles").image("000000000").size
        (64, 64)
    """

    def __init__(self, broker_url: str | None = None, *, queue: str | None = None) -> None:
        """Name the broker, by default as the command line does: ``DDIM_FLEET_BROKER``, then ``DDIM_FLEET_BROKER_FILE``.

        Raises:
            InputError: The URL is none that Redis has.
        """
        self._broker = Broker(named_broker(broker_url, os.environ), queue)

    # Options are spelled out, because editors and help() then know them; RunOptions holds the same.
    def submit(  # noqa: PLR0913
        self,
        requests: Requests,
        *,
        out: str | PathLike[str],
        model: str | PathLike[str] = "shapes",
        seed: int = 0,
        container: Container = "webdataset",
        image_format: ImageFormat = "png",
        quality: int | None = None,
        lossless: bool = False,
        images_per_chunk: int | None = None,
        priority: Priority = "normal",
        defaults: Mapping[str, Any] | None = None,
        lists: Mapping[str, Sequence[str]] | None = None,
        results: bool = False,
        variant: str | None = None,
        settings: Settings = "recommended",
        long_prompts: LongPrompts | None = None,
        max_windows: int | None = None,
    ) -> Run:
        """Check all requests, write the run to ``out`` and queue it; if anything is wrong, do neither.

        Args:
            requests: One for each line of a prompts file: a mapping of the fields of ``Request``, which may have
                ``sweep``, ``sweep_mode`` and ``lists``, with which it stands for many; a ``Request``; or a text, which
                is its prompt. Or a table of pandas, polars or Arrow, or the ``Path`` of a file. NumPy's values are
                taken as Python's; None and NaN leave a field out.
            out: URL or path of the run's folder, which must not hold a run.
            model: A packaged checkpoint's name, or the path of a folder that the workers have, too.
            seed: What the seeds of requests without one follow from.
            container: Whether images go into shards, become an image folder, or stay files named after their requests.
            image_format: What images are encoded as.
            quality: Of jpg and webp, 1 to 100; 95 if None.
            lossless: Have webp lose nothing.
            images_per_chunk: What a worker takes at once; chosen from the number of images if None.
            priority: Whether workers take its chunks before or after those of other runs.
            defaults: Fields of requests that do not give them.
            lists: What prompts may name in braces; without them, braces mean nothing.
            results: Whether the run ends with ``results.jsonl`` and ``errors.jsonl``, lines of the OpenAI Batch form.
            variant: Of the checkpoint's weights, such as ``fp16``; the plain ones, or else the only variant, if None.
            settings: Whether what the checkpoint recommends holds below ``defaults``, or those of diffusers alone.
            long_prompts: What becomes of prompts that are longer than the text encoder takes: they are refused unless
                this, the defaults or the request say ``cut`` or ``chunk``.
            max_windows: How many windows of the text encoder a prompt may take with ``chunk``; 4 if None.

        Raises:
            RequestFaults: Requests have faults; ``line`` counts them from 1.
            InputError: The output or the checkpoint cannot be used, or the output holds a run.
            BrokerError: Redis does not answer.
        """
        options = RunOptions(
            out=fspath(out),
            model=fspath(model),
            seed=_plain("the run's seed", seed),
            container=container,
            encoding=chosen_encoding(image_format, _plain("quality", quality), lossless=bool(lossless)),
            images_per_chunk=_plain("images per chunk", images_per_chunk),
            priority=priority,
            defaults={
                **_mapping("the defaults", defaults),
                **_mapping("the defaults", named_options(long_prompts, max_windows)),
            },
            lists=_mapping("the lists", lists),
            results=results,
            variant=variant,
            settings=settings,
            limits=read_limits(os.environ),
        )
        return Run(submit(rows_of(requests), SOURCE, options, self._broker), self._broker)

    def run(self, url: str | PathLike[str]) -> Run:
        """Return the run at ``url``, another process's too; to read its images takes no Redis.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(RunFolder(fspath(url)), self._broker)


class Run(RunReader):
    """A run in its store; what it shows without Redis, its images among that, stands in ``RunReader``."""

    def __init__(self, folder: RunFolder, broker: Broker) -> None:
        """Open the run that a folder holds.

        Raises:
            RunNotFoundError: It holds none.
        """
        super().__init__(folder)
        self._broker = broker
        self._progress = RunProgress(folder, broker)

    @property
    def plan(self) -> RunPlan:
        """What the run is, as it was last read."""
        return self._progress.plan

    def status(self) -> RunStatus:
        """Return how far the run is; works without Redis from the store alone."""
        return self._progress.read()

    def wait(self, timeout_s: float | None = None) -> RunStatus:
        """Return the status once the run is over.

        Raises:
            TimeoutError: It is not over after ``timeout_s``.
            StorageError: The store has failed for ten minutes; a shorter failure is waited out.
        """
        read_patiently = patient(self.status)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while isinstance(status := read_patiently(), StorageError) or not status.is_over:
            if deadline is not None and time.monotonic() >= deadline:
                state = "no answer from the store" if isinstance(status, StorageError) else status.state
                raise TimeoutError(f"the run must be over within {timeout_s:g} s, got {state} at {self.url}")
            time.sleep(_POLL_S)
        return status

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

    def failed(self) -> Iterator[FailedImage]:
        """Yield the images that could not be made, of the chunks that are done."""
        return failed_images(self._folder)

    def retry_failed(self) -> int:
        """Have all failed images made again, and queue what is missing; return how many there were.

        Raises:
            BrokerError: Redis does not answer.
        """
        return retry_failed(self._folder, self._broker)

    def extend(
        self,
        requests: Requests,
        *,
        defaults: Mapping[str, Any] | None = None,
        long_prompts: LongPrompts | None = None,
        max_windows: int | None = None,
        take_over: bool = False,
    ) -> int:
        """Add requests to the run, finished or not, and queue them; return how many images those are.

        Args:
            requests: As for ``Client.submit``, with a ``custom_id`` that the run does not have, or none.
            defaults: Fields of requests that do not give them, in place of the run's.
            long_prompts: What becomes of prompts that are too long, in place of what the run says.
            max_windows: The same of the windows that a prompt may take.
            take_over: Do so although another extension of the run was begun; whoever began it must have died.

        Raises:
            RequestFaults: Requests have faults; ``line`` counts them from 1.
            RunExistsError: Somebody else is extending the run, or died at it.
            BrokerError: Redis does not answer.
        """
        own = {
            **_mapping("the defaults", defaults),
            **_mapping("the defaults", named_options(long_prompts, max_windows)),
        }
        more = More(rows_of(requests), SOURCE, own, limits=read_limits(os.environ))
        return extend(self._folder, more, self._broker, take_over=take_over).image_count

    def pause(self) -> bool:
        """Have the workers leave the run alone for a while; return whether there was anything left to pause."""
        return pause(self._folder)

    def go_on(self) -> bool:
        """Go on with the run if it was paused, and return whether it was.

        Raises:
            BrokerError: Redis does not answer; workers that know the run go on all the same.
        """
        return go_on(self._folder, self._broker)


def _plain(name: str, value: Any) -> Any:
    """Return a whole number in Python's own type, as NumPy's are not; None stays."""
    plain = None if value is None else plain_value(value)
    if plain is not None and type(plain) is not int:
        raise InputError(f"{name} must be a whole number, got {got(value)}")
    return plain


def _mapping(name: str, value: Any) -> dict[str, Any]:
    plain = {} if value is None else plain_value(value)
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise InputError(f"{name} must be a mapping of names and values, got {got(value)}")
    return plain
