"""What a person may do with a run that is written: queue what is missing of it, cancel it, pause it, go on with it.

The store alone says what is missing, so that all of this works after Redis lost everything, and from any host.
"""

from __future__ import annotations

from ddim_core.contracts.plan import RunPlan
from ddim_core.errors import BrokerError
from ddim_core.storage.commits import Commits
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker


def enqueue(folder: RunFolder, plan: RunPlan, broker: Broker) -> int:
    """Queue every chunk of a written run that is neither committed nor in a worker's hands; return how many.

    Raises:
        BrokerError: Redis failed on the way; the run stays written, and this can be called again.
    """
    done = Commits.of(folder, plan).chunks()
    missing = [chunk for chunk in range(plan.chunk_count) if chunk not in done]
    try:
        held = broker.leased_chunks(plan, missing)
        broker.register(plan, folder.url, done, held)
        missing = [chunk for chunk in missing if chunk not in held]
        broker.queue_chunks(plan, folder.url, missing)
        if len(done) == plan.chunk_count:
            broker.queue_finish(plan, folder.url)
    except BrokerError as exc:
        raise BrokerError(f"{exc}. The run is written; to queue it: ddim-fleet resume {folder.url}") from exc
    return len(missing)


def resume(folder: RunFolder, broker: Broker) -> int:
    """Queue what is missing of a run, cancelled, paused or not; return how many chunks that was, 0 if it is whole.

    Raises:
        RunNotFoundError: The folder holds no run.
        BrokerError: Redis does not answer.
    """
    plan = folder.read_plan()
    broker.ping()
    if folder.read_totals(plan) is not None:
        return 0
    folder.uncancel()
    folder.unpause()
    return enqueue(folder, plan, broker)


def cancel(folder: RunFolder) -> bool:
    """Have the workers stop at a run, keeping what is committed; return whether there was anything left to stop.

    Raises:
        RunNotFoundError: The folder holds no run.
        StorageError: The store failed.
    """
    if folder.read_totals(folder.read_plan()) is not None:
        return False
    folder.cancel()
    return True


def pause(folder: RunFolder) -> bool:
    """Have the workers leave a run alone for a while; return whether there was anything left to pause.

    Raises:
        RunNotFoundError: The folder holds no run.
        StorageError: The store failed.
    """
    if folder.read_totals(folder.read_plan()) is not None or folder.is_cancelled():
        return False
    folder.pause()
    return True


def go_on(folder: RunFolder, broker: Broker) -> bool:
    """Go on with a run that was paused; return whether it was.

    Workers that know the run notice by themselves; its chunks are queued, too, so that the others need not.

    Raises:
        RunNotFoundError: The folder holds no run.
        BrokerError: Redis does not answer; the run is no longer paused.
    """
    plan = folder.read_plan()
    if not folder.is_paused():
        return False
    folder.unpause()
    if not folder.is_cancelled():
        enqueue(folder, plan, broker)
    return True
