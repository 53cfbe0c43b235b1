"""The hosts of a fleet as an operator sees and steers them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from pydantic import ValidationError

from ddim_core.contracts.hosts import CORDONS_KEY, HOSTS_PATTERN, Cordon, HostReport
from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import HostError
from producer.broker import Broker


class Fleet:
    """What the launchers on a broker report, and the marks that take hosts and devices out of service."""

    def __init__(self, broker: Broker) -> None:
        """Ask ``broker``, nothing yet."""
        self._broker = broker

    def hosts(self) -> list[HostReport]:
        """Return the latest report of every launcher that is alive, by host.

        Raises:
            BrokerError: Redis does not answer.
        """
        return sorted(_readable(self._broker.values(HOSTS_PATTERN)), key=lambda report: (report.host, report.pid))

    def cordons(self) -> dict[str, Cordon]:
        """Return what is out of service, by ``HOST`` or ``HOST/DEVICE``; marks nobody can read have no reason.

        Raises:
            BrokerError: Redis does not answer.
        """
        return {place: _cordon(text) for place, text in self._broker.fields(CORDONS_KEY).items()}

    def cordon(self, place: str, reason: str, *, now: bool = False) -> None:
        """Take a host or device out of service; ``now``: what is in hand is given back.

        Raises:
            BrokerError: Redis does not answer.
        """
        since = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        mark = Cordon(reason=reason, since=since, now=now)
        self._broker.set_field(CORDONS_KEY, place, mark.model_dump_json())

    def uncordon(self, place: str) -> bool:
        """Put a host or device back; return whether it was out of service.

        Raises:
            BrokerError: Redis does not answer.
        """
        return self._broker.drop_field(CORDONS_KEY, place)

    def places(self) -> set[str]:
        """Return all hosts and devices that are reported, as ``HOST`` and ``HOST/DEVICE``."""
        hosts = self.hosts()
        return {host.host for host in hosts} | {f"{host.host}/{one.device}" for host in hosts for one in host.devices}

    def serving(self, place: str) -> list[str]:
        """Return what runs there, or will in a moment: devices with a process, and workers with what they hold."""
        host, _, device = place.partition("/")
        workers = [one for one in self._broker.at_work() if one.host == host and device in ("", one.device)]
        devices = {
            one.device
            for report in self.hosts()
            if report.host == host
            for one in report.devices
            if one.state not in ("ended", "out of service") and device in ("", one.device)
        }
        silent = devices - {one.device for one in workers}
        return sorted([*(f"{host}/{name}" for name in silent), *map(_with_chunks, workers)])

    def still_serving(self, place: str, timeout_s: float) -> HostError:
        """Return the error of a place that was not empty in time."""
        left = ", ".join(self.serving(place))
        return HostError(f"{place} must be drained within {timeout_s:g} s, and still has {left}; it goes on draining")


def _with_chunks(worker: WorkerReport) -> str:
    held = len(worker.chunks)
    return f"{worker.host}/{worker.device}" + (f" with {held} chunk{'s' * (held > 1)}" if held else "")


def _readable(texts: Iterable[str]) -> Iterator[HostReport]:
    """Yield the reports in a form we know; another version's launcher may write another."""
    for text in texts:
        try:
            yield HostReport.model_validate_json(text)
        except ValidationError:
            continue


def _cordon(text: str) -> Cordon:
    try:
        return Cordon.model_validate_json(text)
    except ValidationError:
        return Cordon(reason="", since="")
