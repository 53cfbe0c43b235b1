"""Why a Redis that answers may be no broker, by its ``INFO`` and by what it refuses, each with what mends it.

``CONFIG`` is not asked: managed services forbid it, and so does the rule that we give for Redis's users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

_NEARLY_FULL = 0.9
_OTHER = "name another with --broker"
_PRIMARY = "name its primary with --broker, the one whose INFO says role:master"
_CLUSTER = f"workers need a single primary, cluster-enabled no; {_OTHER}"
_ROOM = "raise its maxmemory, or remove what else it holds"
_ANSWER = "must answer"
_HANG_UPS = ("Connection closed by server", "Connection reset by peer")
_BY_CLASS: dict[type[Exception], tuple[str, str]] = {
    BusyLoadingError: ("it is still loading its data from disk", "wait until it has, and try again"),
    MasterDownError: ("it is a replica that has lost its primary", _PRIMARY),
    ReadOnlyError: ("it is a replica, which takes no writes", _PRIMARY),
    MovedError: ("it is part of a cluster", _CLUSTER),
    ClusterDownError: ("it is part of a cluster that is down", _CLUSTER),
    OutOfMemoryError: ("it is full: its maxmemory is used up", _ROOM),
}
_BY_WORD: dict[str, tuple[str, str]] = {
    "MISCONF": ("it takes no writes because it cannot save to its disk", "mend that disk, or turn saving off: save ''"),
    "NOREPLICAS": ("it takes no writes without its replicas", "start them, or set min-replicas-to-write 0"),
    "OOM command not allowed": _BY_CLASS[OutOfMemoryError],
    "CLUSTERDOWN": _BY_CLASS[ClusterDownError],
    "CROSSSLOT": _BY_CLASS[MovedError],
    "max number of clients": ("it has as many clients as it takes", "raise its maxclients, or end some"),
    "protected mode": (
        "it takes clients of its own host only",
        "give it a password (requirepass), or bind and protected-mode no",
    ),
    "Protocol Error": ("what answers there is no Redis", _OTHER),
    "WRONG_VERSION_NUMBER": (
        "it speaks no TLS there",
        "write redis:// in place of rediss://, or name its port for TLS",
    ),
}


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a Redis is not to be used."""

    reason: str
    remedy: str
    rule: str = "must be fit to hold a queue"

    def __str__(self) -> str:
        """Return it in a line, to come after the place."""
        return f"{self.rule}, got: {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Advice:
    """Something about a Redis that can be used, and what mends it."""

    found: str
    remedy: str

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.found}; {self.remedy}"


def explained(exc: Exception, url: str) -> Unfit:
    """Return why the Redis at ``url`` does not do what it was asked, and what mends it."""
    words = str(exc).split("\n", maxsplit=1)[0].rstrip(".")
    if isinstance(exc, AuthenticationError):  # what Redis itself says depends on its version
        form = "redis://:PASSWORD@HOST, or with a user redis://USER:PASSWORD@HOST"
        remedy = f"as {form}, with %25 for a % in it" if "@" in url else f"write {form}"
        return Unfit("the password is wrong or missing", remedy, _ANSWER)
    for kind, answer in _BY_CLASS.items():
        if isinstance(exc, kind):
            return Unfit(*answer)
    for word, (reason, remedy) in _BY_WORD.items():
        if word in words:
            return Unfit(reason, remedy)
    if isinstance(exc, NoPermissionError) or "no permissions" in words:
        return Unfit(words, f"give its user the rule of docs/operations.md, Safety; or {_OTHER}")
    return Unfit(words, f"{_other_scheme(words, url)}start it, or {_OTHER}", _ANSWER)


def _other_scheme(words: str, url: str) -> str:
    """Return what to write for a server that may speak TLS where the URL does not, or the other way round."""
    if url.startswith("rediss://"):
        return "write redis:// if it speaks no TLS, " if "Timeout connecting" in words else ""
    return "write rediss:// if it speaks TLS there, " if any(word in words for word in _HANG_UPS) else ""


def unfitness(info: Mapping[str, Any]) -> Unfit | None:
    """Return why a Redis with this ``INFO`` cannot be a broker, and what mends it; None if it can."""
    if _is_on(info, "cluster_enabled"):
        return Unfit("it has cluster mode on", _CLUSTER)
    if str(info.get("role", "master")) != "master":
        place = f" of {info.get('master_host')}:{info.get('master_port')}" if info.get("master_host") else ""
        return Unfit(f"it is a replica{place}, which takes no writes", _PRIMARY)
    if _is_on(info, "loading"):
        share = info.get("loading_loaded_perc")
        loaded = "" if share is None else f", {float(share):.0f}% so far"
        return Unfit(f"it is still loading its data from disk{loaded}", _BY_CLASS[BusyLoadingError][1])
    return None


def advice(info: Mapping[str, Any]) -> Iterator[Advice]:
    """Yield what to mend of a Redis that can be used as it is, with trouble to come."""
    policy, most = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory") or 0)
    if policy and policy != "noeviction":
        when = "evicts keys when memory is short" if most else "will evict keys once it has a maxmemory"
        yield Advice(
            f"Redis {when} (maxmemory-policy {policy}), and with them messages and leases",
            "set maxmemory-policy noeviction, with CONFIG SET or in the settings of the service",
        )
    used = int(info.get("used_memory") or 0)
    if most and used > _NEARLY_FULL * most:
        yield Advice(f"Redis is nearly full: {used / 1e6:.1f} of {most / 1e6:.1f} MB (maxmemory)", _ROOM)


def _is_on(info: Mapping[str, Any], name: str) -> bool:
    return str(info.get(name, "0")) not in ("0", "")
