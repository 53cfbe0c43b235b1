"""What producer and workers agree on in Redis: task names, the message, Celery's options, and the names of keys.

Redis holds nothing that the store does not know better: messages, leases and counters may all be lost at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ddim_core.broker_url import kombu_url
from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.contracts.limits import Limits
from ddim_core.contracts.plan import Priority

SAMPLE_CHUNK_TASK = "ddim_fleet.sample_chunk"
FINISH_RUN_TASK = "ddim_fleet.finish_run"

DEFAULT_BROKER_URL = "redis://127.0.0.1:6379/0"
DEFAULT_QUEUE = "ddim-fleet"

LEASE_S = 20
"""How long a chunk stays with a worker that has stopped renewing; renewed every ``LEASE_RENEW_S``."""
LEASE_RENEW_S = 5
WORKER_TTL_S = 15
"""A worker that has not reported for this long is shown as gone."""
NOTES_S = 30 * 24 * 3600
"""How long notes outlast the last worker at a run: forgotten runs must not fill Redis for ever."""
VISIBILITY_TIMEOUT_S = 3600
"""Longer than any chunk: leases and the reconciler take over from dead workers, redelivery by Redis is the last net."""


class ChunkMessage(BaseModel):
    """What a message carries: which chunk of which run. Validated again by the worker that gets it.

    It travels as the task's keyword arguments, as the other message does:
    ``app.send_task(SAMPLE_CHUNK_TASK, kwargs=message.model_dump())``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_url: str = Field(min_length=1, max_length=2048)
    run_id: str = Field(pattern=r"^[a-z0-9-]{8,64}$")
    chunk: int = Field(ge=0)


class FinishMessage(BaseModel):
    """Asks for the manifest of a run whose chunks are all committed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    run_url: str = Field(min_length=1, max_length=2048)
    run_id: str = Field(pattern=r"^[a-z0-9-]{8,64}$")


def queue_of(queue: str, priority: Priority) -> str:
    """Return the list in Redis that holds the messages of this priority."""
    return queue if priority == "normal" else f"{queue}.{priority}"


def queues_of(queue: str) -> list[str]:
    """Return the lists of all priorities in the order in which workers empty them."""
    return [queue_of(queue, priority) for priority in ("high", "normal", "low")]


def celery_options(broker_url: str, queue: str = DEFAULT_QUEUE) -> dict[str, Any]:
    """Return Celery's configuration: JSON, late acknowledgement, no results, a connection that notices its death."""
    url, tls = kombu_url(broker_url)
    return {
        "broker_url": url,
        **({} if tls is None else {"broker_use_ssl": tls}),
        "task_default_queue": queue,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "priority_steps": [0],  # kombu's own priorities; here each has a queue
            "queue_order_strategy": "priority",  # the first queue that is not empty, in the order of ``queues_of``
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "health_check_interval": 5,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
    }


@dataclass(frozen=True, slots=True)
class RunKeys:
    """Names of the Redis keys of one run."""

    run_id: str

    def lease(self, chunk: int) -> str:
        """String with expiry: the worker process that holds the chunk."""
        return f"ddim-fleet:lease:{self.run_id}:{chunk}"

    def requeued(self, chunk: int) -> str:
        """String with expiry: the reconciler queued the chunk again a moment ago, or shall not yet."""
        return f"ddim-fleet:requeued:{self.run_id}:{chunk}"

    @property
    def in_hand(self) -> str:
        """Set of the chunks that a worker took and has not committed, and of those sent ahead for one to take."""
        return f"ddim-fleet:in-hand:{self.run_id}"

    @property
    def missing(self) -> str:
        """Set with expiry: chunks that the reconciler found nowhere at its last look, whichever worker had its lock.

        What is left of the expiry says when that was, so nothing else may change it.
        """
        return f"ddim-fleet:missing:{self.run_id}"

    @property
    def attempts(self) -> str:
        """Hash chunk -> how often a worker took it."""
        return f"ddim-fleet:attempts:{self.run_id}"

    @property
    def progress(self) -> str:
        """Hash chunk -> ``made,failed``: images finished in it so far, written over by a repeated attempt."""
        return f"ddim-fleet:progress:{self.run_id}"

    @property
    def committed(self) -> str:
        """Set of the chunks that were committed, as far as Redis remembers; the store alone is sure."""
        return f"ddim-fleet:committed:{self.run_id}"

    @property
    def finishing(self) -> str:
        """String with expiry: the worker process that is writing the manifest."""
        return f"ddim-fleet:lease:{self.run_id}:manifest"

    @property
    def refusals(self) -> str:
        """Hash worker -> how often it could not load the run's checkpoint."""
        return f"ddim-fleet:refusals:{self.run_id}"

    @property
    def refused_since(self) -> str:
        """String: when a worker first could not load the run's checkpoint, in seconds of Redis's clock."""
        return f"ddim-fleet:refused-since:{self.run_id}"

    @property
    def refused(self) -> str:
        """Hash worker -> why it could not load the run's checkpoint, in a line; gone when a worker loads it."""
        return f"ddim-fleet:refused:{self.run_id}"

    @property
    def able(self) -> str:
        """String: the worker that loaded the run's checkpoint last; where there is one, the run can be made."""
        return f"ddim-fleet:able:{self.run_id}"

    @property
    def suspects(self) -> str:
        """Hash image key -> how often a device or worker failed with that image on trial; 0: it did no harm."""
        return f"ddim-fleet:suspects:{self.run_id}"

    @property
    def reasons(self) -> str:
        """Hash image key -> why that was the last time, as JSON ``[code, message]``, where anyone could say."""
        return f"ddim-fleet:reasons:{self.run_id}"

    @property
    def failures(self) -> str:
        """Hash chunk -> how often an attempt at it failed as a whole, through no fault of the store."""
        return f"ddim-fleet:failures:{self.run_id}"

    def lasting(self) -> tuple[str, ...]:
        """Return the keys that outlast a worker: what to delete at a run's end, or before it is queued anew."""
        notes = (self.in_hand, self.attempts, self.progress, self.committed, self.suspects)
        return (*notes, self.reasons, self.failures, self.refusals, self.refused_since, self.refused, self.able)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Which workers could not load a run's checkpoint, and which one last could."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    """Worker -> why, in a line."""
    able: str | None = None


RUNS_KEY = "ddim-fleet:runs"
"""Hash run id -> run URL of the runs that are not finished."""
PROBE_KEY = "ddim-fleet:probe"
"""String with expiry: written before a run is, to see that Redis takes it."""
RECONCILER_LOCK = "ddim-fleet:reconciler"
LEASES_PATTERN = "ddim-fleet:lease:*"
WORKERS_PATTERN = "ddim-fleet:worker:*"


def worker_key(worker_id: str) -> str:
    """String with expiry: a worker's latest report, JSON as in ``WorkerReport``."""
    return f"ddim-fleet:worker:{worker_id}"


WorkerState: TypeAlias = Literal["starting", "ready", "compiling", "draining"]
"""Of a worker: it loads and takes no chunk yet; it makes images, or waits for chunks; it holds chunks and loads or
compiles what they need first; it finishes what it has in hand and ends."""


class WorkerReport(BaseModel):
    """What a worker says of itself every few seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    worker_id: str
    host: str
    pid: int
    device: str
    state: WorkerState
    chunks: tuple[str, ...] = ()
    """``run_id/chunk`` of what it holds."""
    images: int = 0
    images_per_s: float = 0.0
    slot_occupancy: float = 0.0
    """Share of the slots that were in use since the report before."""
    steps: int = 0
    full_steps: float = 0.0
    seconds: dict[str, float] = Field(default_factory=dict)
    graphs: int = 0
    graphs_since_warm_up: int = 0
    slots: dict[str, int] = Field(default_factory=dict)
    memory_shortages: int = 0
    """These seven as in ``contracts.sample.Counters``, of the checkpoint that is loaded."""
    troubles: tuple[str, ...] = ()
    """A line for each store that it waits for: what failed, where and why."""
    version: str = ""
    kernels: str = ""
    """What the CPU computes with, as rows say; empty on other devices and before a checkpoint is loaded."""
    limits: Limits = Limits()
    """What it makes no image beyond; older workers name none."""
    checkpoints: tuple[CheckpointNote, ...] = ()
    """What its host has, as it last looked; older workers do not say."""
