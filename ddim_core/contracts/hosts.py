"""What hosts and operators tell each other in Redis: who serves which devices, and what shall not be served.

As with everything in Redis, its loss costs time only: hosts report again, and a broken device is found broken again.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ddim_core.errors import InputError

HOSTS_PATTERN = "ddim-fleet:host:*"
HOST_TTL_S = 15
"""A host whose launcher has not reported for this long is shown as gone."""
CORDONS_KEY = "ddim-fleet:cordons"
"""Hash ``HOST`` or ``HOST/DEVICE`` -> what takes it out of service, JSON as in ``Cordon``, until it is put back."""

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PLACE = re.compile(r"[^/\s]{1,253}(/(npu|cpu|sim):\d{1,4})?")


def host_key(host: str, pid: int) -> str:
    """String with expiry: the latest report of the launcher ``pid`` on ``host``, JSON as in ``HostReport``."""
    return f"ddim-fleet:host:{host}/{pid}"


class Cordon(BaseModel):
    """Why a host or a device is out of service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str
    since: str
    """ISO 8601, UTC."""
    now: bool = False
    """Whether what is in hand shall be given back at once instead of being finished."""


DeviceState: TypeAlias = Literal["starting", "serving", "restarting", "draining", "ended", "out of service"]
"""Of a device: it is about to get a process; it has one; its process died and another is started after a pause; its
process finishes what it has in hand and ends; it has ended, like its host's others; it gets no process until somebody
puts it back."""
HostState: TypeAlias = Literal["serving", "draining", "out of service"]


class DeviceReport(BaseModel):
    """What a launcher says of one of its devices."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: str
    state: DeviceState
    deaths: int = Field(default=0, ge=0)
    """Of its processes, since the last one that made an image."""
    reason: str = ""
    """Why it is not served, or how its last process ended."""


class HostReport(BaseModel):
    """What a launcher says of its host every few seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    pid: int
    state: HostState
    reason: str = ""
    devices: tuple[DeviceReport, ...] = ()
    version: str = ""


def checked_host(text: str) -> str:
    """Return a name that a host may be given.

    Raises:
        InputError: It has another form.
    """
    if not _HOST.fullmatch(text):
        rule = "must be made of letters, digits, '.', '_' and '-', and begin and end with a letter or digit"
        raise InputError(f"a host's name {rule}, got {text!r:.80}")
    return text


def checked_place(text: str) -> str:
    """Return the name of a host or of one of its devices, as ``HOST`` or ``HOST/DEVICE``.

    Raises:
        InputError: It has another form.
    """
    if not _PLACE.fullmatch(text):
        raise InputError(f"a place must be HOST or HOST/DEVICE, such as node7 or node7/npu:3, got {text!r}")
    return text
