"""The supervisor of a host's workers: one process a device, started again when it dies, drained when asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence

from ddim_core.contracts.hosts import Cordon, DeviceReport, DeviceState, HostReport, HostState
from ddim_core.errors import HostError, InputError
from ddim_core.version import __version__
from workers.coordination.connection import Board
from workers.coordination.leases import release_all
from workers.coordination.reports import take_back
from workers.periodic import Periodic
from workers.settings import EXIT_NO_HOST, EXIT_OK, EXIT_UNUSABLE, WorkerSettings
from workers.supervisor.cordons import Cordons
from workers.supervisor.health import LOOK_INTERVAL_S, HealthWatch
from workers.supervisor.restarts import MAX_DEATHS, Restarts
from workers.supervisor.worker_handle import FINISH, GIVE_BACK, KILL, Child

log = logging.getLogger(__name__)

POLL_S = 0.2
_STOPPING = {
    FINISH: "the workers finish the chunks in hand; a second signal has them given back at once",
    GIVE_BACK: "the workers give back the chunks in hand; a third signal kills them",
    KILL: "the workers are killed; others take their chunks over",
}
UNUSABLE = {EXIT_UNUSABLE: InputError.exit_code, EXIT_NO_HOST: HostError.exit_code}
"""Ends of a worker process that no restart would mend, with what the command then ends with."""


class Launcher:
    """Keeps the worker processes of this host running until a signal or a command ends it."""

    def __init__(self, children: Sequence[Child], board: Board, health: HealthWatch | None = None) -> None:
        """Supervise ``children``, which use the Redis of ``board``; ``health`` watches over their devices."""
        self._children = list(children)
        self._board = board
        self._health = health
        self._urgency = 0
        self._signals = 0
        self._has_served = False
        self._host = self._children[0].settings.host
        self._told: dict[str, str] = {}
        self.cordons = Cordons(board, self._host, os.getpid(), self.report)

    @classmethod
    def of(
        cls,
        settings: Sequence[WorkerSettings],
        board: Board,
        *,
        max_deaths: int = MAX_DEATHS,
        health: HealthWatch | None = None,
    ) -> Launcher:
        """Return the launcher of these processes, which gives a device up after ``max_deaths`` of them in a row."""
        return cls([Child(one, Restarts(max_deaths)) for one in settings], board, health)

    def run(self) -> int:
        """Supervise until every process has ended for good; return the exit code of the command.

        SIGTERM, SIGINT and SIGHUP have the processes end, each one more urgently: chunks in hand are finished, then
        given back, then lost. Where the host was drained before, nothing is started until it is put back.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self.cordons.exchange()
        self._warn_of_namesakes()
        self.cordons.start()
        watch = None if self._health is None else Periodic("health", LOOK_INTERVAL_S, self._health.look)
        if watch is not None:
            watch.start()
        while self._tend():
            time.sleep(POLL_S)  # no event: a handler that sets one may find its lock taken by what it interrupted
        if watch is not None:
            watch.stop(0)
        self.cordons.stop()
        return max(child.unusable for child in self._children)

    def report(self) -> HostReport:
        """Return what there is to say of this host."""
        cordon = self.cordons.of_host()
        state: HostState = "serving" if cordon is None or self._has_served else "out of service"
        return HostReport(
            host=self._host,
            pid=os.getpid(),
            state="draining" if self._urgency else state,
            reason="" if cordon is None else cordon.reason,
            devices=(*map(self._report_of, self._children), *self._left_out()),
            version=__version__,
        )

    def _left_out(self) -> Iterator[DeviceReport]:
        """Yield the NPUs that were not healthy when this supervisor started, and are not now."""
        served = {child.label for child in self._children}
        for label, health in list(self._health.unfit.items()) if self._health else []:
            if label not in served:
                reason = f"{_unfit(health)}; start the supervisor again after the repair"
                yield DeviceReport(device=label, state="out of service", reason=reason)

    def _report_of(self, child: Child) -> DeviceReport:
        cordon = self.cordons.of_device(child.label) or (None if self._has_served else self.cordons.of_host())
        state: DeviceState = "draining" if child.urgency else "serving"
        reason = "" if cordon is None else cordon.reason
        if child.process is None:
            reason = reason or child.last_end
            state = "restarting" if child.restarts.deaths else "starting"
            if cordon is not None or child.unusable or self._urgency:
                state = "ended" if cordon is None and not child.unusable else "out of service"
        return DeviceReport(device=child.label, state=state, deaths=child.restarts.deaths, reason=reason)

    def _on_signal(self, number: int, _: object) -> None:
        self._signals += 1
        self._ask_to_end(min(max(self._urgency, self._signals), KILL), {"signal": number})

    def _ask_to_end(self, urgency: int, why: dict[str, object]) -> None:
        self._urgency = urgency
        log.info(_STOPPING[urgency], extra={"action": "stopping", **why})

    def _tend(self) -> bool:
        """Look after each child once; return whether there is anything left to look after."""
        self._heed_cordon(self.cordons.of_host())
        self._tell_cordons()
        self._put_out_unfit()
        return sum(self._tend_one(child) for child in self._children) > 0

    def _heed_cordon(self, cordon: Cordon | None) -> None:
        """End like after a signal when the host is drained by command; one that was drained before never began."""
        if cordon is not None and self._has_served and (urgency := _urgency_of(cordon)) > self._urgency:
            self._ask_to_end(urgency, {"reason": cordon.reason})

    def _tell_cordons(self) -> None:
        """Log what keeps devices from being started, once each, and that it is gone: else they would seem to hang."""
        places = {self._host: None if self._has_served else self.cordons.of_host()}
        places |= {f"{self._host}/{child.label}": self.cordons.of_device(child.label) for child in self._children}
        for place, cordon in places.items():
            since = "" if cordon is None else cordon.since
            if cordon is not None and self._told.get(place) != since:
                log.warning(
                    "out of service: nothing is started here until ddim-fleet uncordon puts it back",
                    extra={"action": "out_of_service", "place": place, "since": since, "reason": cordon.reason},
                )
            elif cordon is None and self._told.get(place):
                log.info("back in service", extra={"action": "in_service", "place": place})
            self._told[place] = since

    def _warn_of_namesakes(self) -> None:
        """Log that another supervisor of this machine has this one's name: they share cores, and drain together."""
        for pid in self.cordons.namesakes():
            log.warning(
                "another supervisor here has the same name, so that drain reaches both, and they may share cores; "
                "--host-name and --cores keep them apart",
                extra={"action": "same_name", "host": self._host, "pid": pid},
            )

    def _put_out_unfit(self) -> None:
        if self._health is not None:
            served = {child.label for child in self._children}
            for label, health in list(self._health.unfit.items()):
                if label in served:
                    self._put_out(label, _unfit(health))
                    self._health.taken_out(label)

    def _put_out(self, label: str, reason: str) -> None:
        if self.cordons.of_device(label) is None:
            self.cordons.put_out(label, reason)
            log.error(
                "a device is out of service until ddim-fleet uncordon puts it back",
                extra={"action": "device_out", "device": label, "reason": reason},
            )

    def _tend_one(self, child: Child) -> bool:
        child.listen()
        cordon = self.cordons.of_device(child.label)
        if child.process is None:
            return self._start_when_due(child, cordon)
        exit_code = child.exit_code()
        if exit_code is not None:
            worker_id = child.settings.worker_id(child.process.pid)
            release_all(self._board, worker_id)
            take_back(self._board, worker_id)
            child.ended(exit_code)
            return self._urgency == 0 and self._ended(child, exit_code)
        child.ask_to_end(max(self._urgency, 0 if cordon is None else _urgency_of(cordon)))
        return True

    def _start_when_due(self, child: Child, cordon: Cordon | None) -> bool:
        if self._urgency or child.unusable:
            return False
        if cordon is not None:
            child.restarts.forgive()  # for when it is put back
            child.start_at = 0.0
        elif (self._has_served or self.cordons.of_host() is None) and time.monotonic() >= child.start_at:
            self._has_served = True
            child.start()
        return True

    def _ended(self, child: Child, exit_code: int) -> bool:
        """Decide when the child starts again; return whether it may."""
        child.unusable = UNUSABLE.get(exit_code, EXIT_OK)
        if child.unusable:
            return False
        if child.urgency:  # its device was taken out of service
            return True
        lived_s = time.monotonic() - child.started_at
        given_up = child.restarts.died(lived_s=lived_s, worked=child.worked, tried=child.tried)
        child.start_at = time.monotonic() + child.restarts.pause_s
        log.warning(
            "a worker process died and will be started again",
            extra={
                "action": "worker_died",
                "device": child.label,
                "exit_code": exit_code,
                "pause_s": child.restarts.pause_s,
            },
        )
        if given_up:
            deaths = child.restarts.deaths
            self._put_out(child.label, f"its process died {deaths} times without an image, last: {child.last_end}")
        return True


def _unfit(health: str) -> str:
    return f"npu-smi says that it is {health}"


def _urgency_of(cordon: Cordon) -> int:
    return GIVE_BACK if cordon.now else FINISH
