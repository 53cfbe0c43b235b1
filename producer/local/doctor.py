"""What is missing on this host, and how to mend it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from ddim_core.errors import FleetError
from ddim_core.storage.objects import ObjectStore
from producer.broker import Broker
from producer.local.die_with_parent import safe_path
from producer.local.fleet import redis_server
from producer.local.packages import DISTRIBUTION, Find, conflicts, installed, mending

Verdict = Literal["ok", "warn", "fail"]

COMPILE_CACHE = "MS_COMPILER_CACHE_ENABLE"
SUPPORTED_PYTHON = ((3, 10), (3, 12))
_SURVEY_TIMEOUT_S = 90
_CONFLICTS_SHOWN = 4
_INSTALL_WORKER = "pip install 'ddim-fleet[worker]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(environment: Mapping[str, str], broker: str | None, out: str | None) -> Iterator[Finding]:
    """Yield what there is to say about this host, in the order in which to mend it.

    Args:
        environment: The process's variables.
        broker: URL that was asked for, or None for the default one, whose absence is no failure.
        out: Store URL to write a probe to, or None.
    """
    yield python(sys.version_info[:2])
    yield messaging(_versions("celery", "kombu"))
    yield sampling(_versions("mindspore", "mindone"))
    yield packages(installed)
    yield compile_cache(environment)
    surveyed = _survey()
    yield from devices(surveyed)
    if _version("mindspore") is not None:
        yield from kernels(surveyed)
    yield own_redis(redis_server())
    yield from redis(Broker(broker), asked_for=broker is not None)
    if out is not None:
        yield store(out)


def python(running: tuple[int, int]) -> Finding:
    """MindSpore has wheels for few releases of Python."""
    low, high = (".".join(map(str, release)) for release in SUPPORTED_PYTHON)
    if SUPPORTED_PYTHON[0] <= running <= SUPPORTED_PYTHON[1]:
        return Finding("Python", "ok", platform.python_version())
    remedy = f"make a virtual environment with Python {low} to {high}"
    return Finding("Python", "fail", ".".join(map(str, running)), remedy)


def messaging(found: Mapping[str, str | None]) -> Finding:
    """Only one pair of releases survives a restart of Redis and notices a frozen one."""
    wanted = {"celery": "5.6.3", "kombu": "5.7.0"}
    if dict(found) == wanted:
        return Finding("Celery", "ok", _named(found))
    remedy = "pip install " + " ".join(f"{name}=={release}" for name, release in wanted.items())
    return Finding("Celery", "warn", _named(found), f"{remedy}; others lose their connection to Redis")


def sampling(found: Mapping[str, str | None]) -> Finding:
    """Hosts that only submit runs need no MindSpore."""
    if None in found.values():
        remedy = f"{_INSTALL_WORKER}, where images are to be made; not needed to submit runs"
        return Finding("MindSpore", "warn", _named(found), remedy)
    if (found["mindspore"] or "").startswith("2.7."):
        return Finding("MindSpore", "ok", _named(found))
    return Finding("MindSpore", "warn", _named(found), f"{_INSTALL_WORKER}; 2.9 and later are very slow on the CPU")


def packages(find: Find) -> Finding:
    """What is installed beside this program may have brought NumPy and others to releases that it cannot use."""
    if find(DISTRIBUTION) is None:
        return Finding(
            "packages", "warn", f"{DISTRIBUTION} is not installed, so nothing says what it needs", "pip install ."
        )
    if not (found := conflicts(find)):
        return Finding("packages", "ok", "fit together")
    more = [f"and {len(found) - _CONFLICTS_SHOWN} more"] if len(found) > _CONFLICTS_SHOWN else []
    said = "; ".join([*map(str, found[:_CONFLICTS_SHOWN]), *more])
    return Finding("packages", "fail", said, f"{mending(find)}, in one command with whatever else is to be installed")


def compile_cache(environment: Mapping[str, str]) -> Finding:
    """MindSpore's compile cache gives a process another function's graph."""
    value = environment.get(COMPILE_CACHE)
    if value in (None, "", "0"):
        return Finding("compile cache", "ok", "off, as it must be: MindSpore's gives a process another one's graphs")
    remedy = (
        f"unset {COMPILE_CACHE}: with the cache on, MindSpore gives wrong images. It numbers graphs in the order in "
        "which they were compiled, so that a process that compiles in another order takes another function's"
    )
    return Finding("compile cache", "fail", f"{COMPILE_CACHE}={value}", remedy)


def devices(survey: Mapping[str, Any]) -> Iterator[Finding]:
    """What workers on this host would be started on."""
    if survey.get("error"):
        yield Finding("devices", "fail", str(survey["error"]), "see ddim-fleet worker devices")
        return
    if survey.get("npu_smi"):
        yield Finding("npu-smi", "ok", "found")
    else:
        remedy = "install the Ascend driver, or map npu-smi into the container, if this host has NPUs"
        yield Finding("npu-smi", "warn", "not found; images are made on the CPU", remedy)
    for device in survey.get("devices", []):
        healthy = device["health"] in ("OK", "Warning")
        name = " ".join(filter(None, [device["name"], device["health"]]))
        remedy = "" if healthy else "see npu-smi info; it is not used unless named in --devices"
        yield Finding(device["device"], "ok" if healthy else "warn", name, remedy)


def kernels(survey: Mapping[str, Any]) -> Iterator[Finding]:
    """Images made on the CPU take two to three times as long without the kernels that come with this program."""
    if not survey.get("kernels"):
        return
    if not survey.get("kernels_missing"):
        yield Finding("CPU kernels", "ok", str(survey["kernels_found"]))
        return
    remedy = "DDIM_FLEET_KERNELS=native pip install 'ddim-fleet[worker]' from the sources, or a wheel for this machine"
    yield Finding("CPU kernels", "warn", str(survey["kernels_found"]), remedy)


def own_redis(program: str | None) -> Finding:
    """``ddim-fleet run`` brings a Redis of its own."""
    if program:
        return Finding("redis-server", "ok", program)
    remedy = "install your system's redis (Debian: apt-get install redis-server); only `ddim-fleet run` needs it"
    return Finding("redis-server", "warn", "not found", remedy)


def redis(broker: Broker, *, asked_for: bool) -> Iterator[Finding]:
    """Everything but ``ddim-fleet run`` needs a Redis that is there already, takes writes, and forgets nothing."""
    try:
        broker.ping()
        found = broker.advice()
    except FleetError as exc:
        said, _, remedy = str(exc).partition("; ")
        yield Finding("Redis", "fail" if asked_for else "warn", said, f"{remedy}; `ddim-fleet run` needs none")
        return
    yield Finding("Redis", "ok", f"{broker.shown_url} answers and takes writes")
    for one in found:
        yield Finding("Redis", "warn", one.found, one.remedy)


def store(out: str) -> Finding:
    """Write and remove a probe."""
    try:
        ObjectStore(out).check_writable()
    except FleetError as exc:
        return Finding(
            "output", "fail", str(exc), "see what the store says; credentials and rights are the usual reasons"
        )
    return Finding("output", "ok", f"{out} is writable")


def _survey() -> dict[str, Any]:
    """Ask the workers' package, in a process of its own, since the producer never imports it."""
    command = [sys.executable, "-m", "workers", "devices", "--json"]
    environment = {**os.environ, **safe_path()}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SURVEY_TIMEOUT_S, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        return {"error": (exc.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    except (subprocess.TimeoutExpired, ValueError) as exc:
        return {"error": str(exc)}
    return found


def _versions(*names: str) -> dict[str, str | None]:
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _named(found: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {release or 'not installed'}" for name, release in found.items())
