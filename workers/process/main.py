"""One worker process, serving one device: ``python -m workers.process.main``, its settings on standard input."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

from celery import signals
from celery.platforms import SecurityWarning
from celery.worker import state as celery_state
from pydantic import ValidationError

from ddim_core.broker_url import secrets_of, shown_broker
from ddim_core.contracts.queue import FinishMessage, queues_of
from ddim_core.errors import DeadlineExceededError, FleetError, HostError, InputError, RunNotFoundError, StorageError
from workers.chunks.on_device import OnDevice
from workers.chunks.worker import ChunkWorker
from workers.coordination.connection import Board
from workers.coordination.leases import Leases, release_all
from workers.coordination.outbox import Outbox
from workers.coordination.queue_view import QueueView
from workers.finishing.finisher import Finisher
from workers.logs import set_up_logging
from workers.meter import Meter
from workers.periodic import Periodic
from workers.process.draining import Drain
from workers.process.metrics import MetricsServer
from workers.process.presence import Presence
from workers.process.tasks import make_app, register_tasks
from workers.process.watchdog import Watchdog, check_interval_s, set_alarm
from workers.pulse import Pulse
from workers.reconciler import ROUND_INTERVAL_S, Reconciler
from workers.runs import Runs
from workers.samplers.checkpoints import Checkpoints
from workers.samplers.known import KnownCheckpoints
from workers.samplers.loading import make_finder, warm_up
from workers.samplers.samplers import Samplers
from workers.settings import EXIT_FAILED, EXIT_NO_HOST, EXIT_OK, EXIT_UNUSABLE, GIVE_BACK_SIGNAL, WorkerSettings
from workers.store_watch import StoreWatch

_PR_SET_PDEATHSIG = 1
_NOTE_PATIENCE_S = 30.0
"""How long a process whose device hangs waits for a Redis that is away; it has nothing else to do."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """Everything that one process runs, put together."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Put the parts together; nothing is started and no connection made.

        Raises:
            InputError: The broker's URL cannot be used.
            HostError: The device needs MindSpore, and it is not installed.
        """
        self._settings = settings
        self._ends_to_restart = False
        self._drain = Drain(settings.drain_timeout_s, stop_taking=self._stop_taking, give_back=self._give_back)
        self._loads = False
        self.worker_id = settings.worker_id(os.getpid())
        self._board = Board(settings.broker_url)
        self._leases = Leases(self._board, self.worker_id)
        self._runs = Runs()
        self._checkpoints = Checkpoints(settings.models)
        self._known = KnownCheckpoints(self._checkpoints)
        self._samplers = Samplers(make_finder(settings, self._checkpoints))
        self._encoders = ThreadPoolExecutor(settings.chunks_in_flight, thread_name_prefix="encode")
        self._finisher = Finisher(self._board, self._leases, self._runs)
        self._app = make_app(settings)
        self._outbox = Outbox(self._app, self._board, settings.queue)
        self._pulse = Pulse(settings.pulse_descriptor)
        self._meter = Meter(self._pulse.worked)
        self._stores = StoreWatch(lambda: celery_state.should_stop is not None)
        self._chunks = self._make_chunk_worker()
        self._presence = self._make_presence()
        self._metrics = self._make_metrics()
        self._reconciling = Periodic("reconciler", ROUND_INTERVAL_S, self._make_reconciler().round)
        self._watchdog = Watchdog(
            self._board,
            settings.queue,
            stall_timeout_s=settings.stall_timeout_s,
            restart=self._restart,
            abort=self._give_up_device,
        )
        self._watching = Periodic("watchdog", check_interval_s(settings.stall_timeout_s), self._watch)
        register_tasks(self._app, self._chunks.sample, self._finish)

    def _make_chunk_worker(self) -> ChunkWorker:
        return ChunkWorker(
            worker_id=self.worker_id,
            device=self._settings.device.label,
            board=self._board,
            leases=self._leases,
            runs=self._runs,
            samplers=self._samplers,
            encoders=self._encoders,
            finisher=self._finisher,
            meter=self._meter,
            requeue=lambda message, priority, front: self._outbox.chunks([message], priority, front=front),
            on_device_error=self._restart,
            on_device=OnDevice(self._pulse.on_trial),
            stores=self._stores,
            limits=self._settings.limits,
            secrets=secrets_of(os.environ, self._settings.broker_url),
        )

    def _make_presence(self) -> Presence:
        return Presence(
            self._board,
            self.worker_id,
            self._settings.device.label,
            self._meter,
            host=self._settings.host,
            chunks=self._leases.chunks,
            samplers=self._samplers,
            troubles=self._stores.lines,
            limits=self._settings.limits,
            checkpoints=lambda: self._known.latest,
        )

    def _make_metrics(self) -> MetricsServer | None:
        port, host = self._settings.metrics_port, self._settings.metrics_host
        return None if port is None else MetricsServer(host, port, lambda: self._presence.latest)

    def _make_reconciler(self) -> Reconciler:
        queue_view = QueueView(self._board, self._settings.queue)
        return Reconciler(self._board, self.worker_id, self._runs, self._outbox, queue_view)

    def run(self) -> int:
        """Serve until a signal or a failure; return the process's exit code.

        Raises:
            HostError: This host cannot run the device.
            CheckpointError: The packaged checkpoint cannot be used.
        """
        self._known.start()
        self._presence.start()
        if self._metrics is not None:
            self._metrics.start()
        self._leases.start()
        self._chunks.cancels.start()
        self._stores.start()
        self._watching.start()  # before loading, which is when a broken driver hangs
        self._warm_up()
        self._reconciling.start()
        try:
            exit_code = self._consume()
        finally:
            self._stop()
        return EXIT_FAILED if self._ends_to_restart or exit_code else EXIT_OK

    def _warm_up(self) -> None:
        self._loads = True
        warm_up(self._samplers, self._settings, self._checkpoints)
        self._loads = False

    def _consume(self) -> int:
        signals.setup_logging.connect(_keep_logging, weak=False)
        signals.worker_ready.connect(self._on_ready, weak=False)
        # Celery advises against root because of pickled messages; they are refused here, and containers often run so.
        warnings.filterwarnings("ignore", category=SecurityWarning)
        worker = self._app.Worker(
            hostname=f"{self._settings.device.label}-{os.getpid()}@{self._settings.host}",
            pool="threads",
            concurrency=self._settings.chunks_in_flight,
            queues=queues_of(self._settings.queue),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
            loglevel=self._settings.log_level,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _stop(self) -> None:
        self._reconciling.stop()
        self._watching.stop()
        set_alarm(0)
        self._samplers.close()
        self._encoders.shutdown()
        self._chunks.cancels.stop()
        self._stores.stop()
        self._leases.stop()
        release_all(self._board, self.worker_id)
        self._presence.stop()
        if self._metrics is not None:
            self._metrics.stop()
        self._board.close()

    def _finish(self, message: FinishMessage) -> None:
        if self._stores.is_away(message.run_url):  # another thread waits for it, or the reconciler asks again
            return
        try:
            run = self._runs.open(message.run_url, message.run_id)
            self._stores.insist(message.run_url, lambda: self._finisher.finish(run))
        except (InputError, StorageError) as exc:
            if isinstance(exc, RunNotFoundError):
                self._runs.forget(message.run_url, message.run_id)
            log.error(
                "a manifest could not be written",
                extra={"action": "finish_failed", "run": message.run_id, "error": str(exc)},
            )

    def _watch(self) -> None:
        set_alarm(self._watchdog.alarm_s)
        counters = self._samplers.counters()
        self._watchdog.check(
            on_device=self._chunks.on_device.is_busy and not self._samplers.is_warming_up,
            busy=self._loads or bool(self._leases.chunks()),  # a manifest may take its time
            received=self._chunks.received,
            done=self._meter.total + counters.steps + counters.graphs,
        )

    def _give_up_device(self) -> None:
        """End the process at once; the image that is alone on the device, if one is, is what it hangs on.

        One that has come back, and waits for its store, is not.
        """
        timeout_s = self._settings.stall_timeout_s
        reason = DeadlineExceededError(f"the device stood still for {timeout_s:g} s with this image alone on it")
        if self._chunks.on_device.is_busy and self._chunks.on_device.accuse(reason, _NOTE_PATIENCE_S):
            log.error("an image made the device stand still", extra={"action": "image_stuck"})
        _abort()

    def _restart(self) -> None:
        """End after the chunks in hand, so that the launcher starts a fresh process."""
        self._ends_to_restart = True
        self._drain.begin()

    def _give_back(self) -> None:
        self._chunks.give_back_all()

    def _on_ready(self, **_: object) -> None:
        # In place of Celery's handlers, which print and count.
        for number in (signal.SIGTERM, signal.SIGINT, GIVE_BACK_SIGNAL):
            signal.signal(number, self._drain.on_signal)
        self._presence.say("ready")
        broker = shown_broker(self._settings.broker_url)
        line = f"{self._settings.device.label} is ready, pid {os.getpid()}, queue {self._settings.queue} at {broker}"
        print(line, flush=True)  # noqa: T201 - the command's own output

    def _stop_taking(self) -> None:
        """Have Celery end once nothing is in hand."""
        celery_state.should_stop = EXIT_OK
        self._presence.say("draining")


def main() -> int:
    """Run the process that standard input describes; return its exit code."""
    try:
        settings = WorkerSettings.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as exc:
        faults = exc.errors(include_input=False, include_url=False)  # the input holds the broker's password
        print(f"settings on standard input must be those of a worker, got: {faults}", file=sys.stderr)  # noqa: T201
        return EXIT_UNUSABLE
    set_up_logging(settings.log_level, settings.device.label, secrets_of(os.environ, settings.broker_url))
    if settings.parent_pid:
        _die_with(settings.parent_pid)
    if settings.device.cores:
        os.sched_setaffinity(0, settings.device.cores)
    try:
        return WorkerProcess(settings).run()
    except (InputError, HostError) as exc:
        log.error("this worker cannot run here", extra={"action": "unusable", "error": str(exc)})
        return EXIT_NO_HOST if isinstance(exc, HostError) else EXIT_UNUSABLE
    except FleetError as exc:
        log.error("this worker failed", extra={"action": "failed", "error": str(exc)})
    except Exception:
        log.exception("this worker failed in a way nobody foresaw", extra={"action": "failed"})
    return EXIT_FAILED


def _die_with(parent_pid: int) -> None:
    """Be killed when the launcher dies, whatever kills it: nobody would restart or stop this process then."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(EXIT_FAILED)


def _abort() -> None:
    """End at once: threads that hang would never let an orderly end through."""
    os._exit(EXIT_FAILED)


def _keep_logging(**_: object) -> None:
    """Having a receiver keeps Celery from setting up logging of its own."""


if __name__ == "__main__":
    sys.exit(main())
