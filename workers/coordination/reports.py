"""What a worker last said of itself in Redis, taken back by whoever saw it die."""

from __future__ import annotations

from ddim_core.contracts.queue import worker_key
from workers.coordination.connection import Board


def take_back(board: Board, worker_id: str) -> None:
    """Remove the report of a process that is known to have ended, so that nobody counts it until it expires."""
    board.ask(lambda redis: redis.delete(worker_key(worker_id)), otherwise=0)
