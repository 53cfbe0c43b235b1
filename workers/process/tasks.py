"""The Celery application of a worker and its two tasks, which only check the message and pass it on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from celery import Celery
from pydantic import BaseModel, ValidationError

from ddim_core.contracts.queue import FINISH_RUN_TASK, SAMPLE_CHUNK_TASK, ChunkMessage, FinishMessage, celery_options
from workers.process.transport import TRANSPORT
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)
Message = TypeVar("Message", bound=BaseModel)


def make_app(settings: WorkerSettings) -> Celery:
    """Return the Celery application of a worker: the agreed options, without what costs and is not used."""
    app = Celery("ddim-fleet", set_as_current=False)
    app.conf.update(celery_options(settings.broker_url, settings.queue))
    app.conf.update(worker_enable_remote_control=False, worker_send_task_events=False)
    app.conf.broker_transport = TRANSPORT
    return app


def register_tasks(
    app: Celery, sample: Callable[[ChunkMessage], None], finish: Callable[[FinishMessage], None]
) -> None:
    """Give ``app`` its tasks; both take their message as keyword arguments.

    Any exception is logged and the message acknowledged: what is left undone, the reconciler queues again.
    """

    @app.task(name=SAMPLE_CHUNK_TASK, typing=False, shared=False)
    def sample_chunk(*_: object, **fields: object) -> None:
        """Make a chunk's images.

        It may run twice, also at the same time: Redis delivers again after a lost connection or a dead worker, and the
        reconciler queues what it takes for lost. Every run of it writes the same files, the part last.
        """
        message = _checked(ChunkMessage, SAMPLE_CHUNK_TASK, fields)
        if message is not None:
            sample(message)

    @app.task(name=FINISH_RUN_TASK, typing=False, shared=False)
    def finish_run(*_: object, **fields: object) -> None:
        """Write a run's manifest.

        It may run twice: the manifest depends on nothing but what the chunks left in the store.
        """
        message = _checked(FinishMessage, FINISH_RUN_TASK, fields)
        if message is not None:
            finish(message)


def _checked(kind: type[Message], task: str, fields: dict[str, Any]) -> Message | None:
    try:
        return kind.model_validate(fields)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        log.error(
            "dropped a message that does not validate",
            extra={"action": "message_refused", "task": task, "field": place, "rule": fault["msg"]},
        )
        return None
