"""Logging of worker processes: constant messages with their data as ``key=value``, and no secrets."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Sequence

from redis.exceptions import AuthenticationError, NoPermissionError

from ddim_core.hiding import without_controls, without_secrets

log = logging.getLogger(__name__)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NEEDS_QUOTES = re.compile(r'[\s="]')


class KeyValueFormatter(logging.Formatter):
    """Prints a record as time, level, message, then what ``extra`` carried as ``key=value``, ``action`` first."""

    def __init__(self, device: str, secrets: Sequence[str] = ()) -> None:
        """Prefix every line with ``device``, so that the lines of several processes can be told apart.

        None of the ``secrets`` is ever printed, whoever logs it.
        """
        super().__init__(f"%(asctime)s %(levelname)s [{device}] %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._secrets = tuple(secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line without a traceback."""
        data = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        first = {"action": data.pop("action")} if "action" in data else {}
        pairs = (f"{name}={_quoted(str(value))}" for name, value in {**first, **data}.items())
        return " ".join([super().formatMessage(record), *pairs])

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one, without secrets: exceptions of libraries quote URLs."""
        return without_controls(without_secrets(super().format(record), self._secrets))


def set_up_logging(level: str, device: str, secrets: Sequence[str] = ()) -> None:
    """Send the records of this process to standard error; Celery's and kombu's only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter(device, secrets))
    if level != "DEBUG":
        handler.addFilter(_without_lost_connections)
        handler.addFilter(_with_refusals_in_a_line)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _log_end_of_thread  # Python's own prints it past the handler, with all that it quotes
    if level != "DEBUG":
        for name in ("celery", "kombu", "amqp"):
            logging.getLogger(name).setLevel(logging.WARNING)


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    if end.exc_type is not SystemExit:
        info = (end.exc_type, end.exc_value or end.exc_type(), end.exc_traceback)
        name = end.thread.name if end.thread else "unknown"
        log.error("a thread ended by an error", extra={"action": "thread_ended", "ended": name}, exc_info=info)


def _without_lost_connections(record: logging.LogRecord) -> bool:
    """Strip the tracebacks that Celery's consumer logs at every loss of Redis: the line says it, and it is no fault."""
    if record.name.startswith("celery.worker.consumer") and record.levelno < logging.CRITICAL:
        record.exc_info = None
    return True


def _with_refusals_in_a_line(record: logging.LogRecord) -> bool:
    """Have Celery say in its line what Redis does not let this user do, in place of two tracebacks."""
    refusal = record.exc_info[1] if record.exc_info else None
    if record.name.startswith("celery.worker") and isinstance(refusal, AuthenticationError | NoPermissionError):
        vars(record).update(action="redis_refused", error=str(refusal))
        record.exc_info = None
    return True


def _quoted(value: str) -> str:
    line = " ".join(value.split())
    return '"' + line.replace('"', "'") + '"' if _NEEDS_QUOTES.search(line) or not line else line
