"""The Ascend NPUs of this host, as ``npu-smi`` lists them. The parsers are pure: text in, values out.

Column widths, units and extra rows differ between versions and chips, so fields are split on ``|`` and white space,
never by position. Nothing here needs an NPU to be present, and ``npu-smi`` may hang, so every call has a time limit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ddim_core.errors import HostError

TIMEOUT_S = 20.0
"""For one question."""
ROUND_S = 30.0
"""For all questions of one round: a host with sixteen dies and a slow driver must not keep a supervisor for minutes."""
HEALTHY = ("OK", "Warning")
"""Health with which a chip is given work unasked; the others are Alarm, Critical, UNKNOWN."""
UNKNOWN = "UNKNOWN"
"""Health that could not be read: an older ``npu-smi``, or one that a user in a container may not ask."""

_USAGE = re.compile(r"(\d+)\s*/\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Chip:
    """An NPU chip: its place on the host and the logic id by which a process asks for it."""

    npu_id: int
    chip_id: int
    logic_id: int
    name: str

    @property
    def place(self) -> tuple[int, int]:
        """Its card and its die on the card, as ``npu-smi`` numbers them."""
        return self.npu_id, self.chip_id


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy a chip is."""

    npu_id: int
    chip_id: int
    health: str
    aicore_percent: int
    memory_used_mb: int
    memory_total_mb: int


@dataclass(frozen=True, slots=True)
class NpuProcess:
    """A process that holds memory of a chip."""

    npu_id: int
    chip_id: int
    pid: int
    name: str
    memory_mb: int


class NpuSmi:
    """One round of questions to ``npu-smi``: each is asked once, and all of them together have ``ROUND_S``."""

    def __init__(self, round_s: float = ROUND_S) -> None:
        """Begin the round: its time runs from now."""
        self._ends_s = time.monotonic() + round_s
        self._answers: dict[tuple[str, ...], str | HostError] = {}

    def ask(self, *arguments: str) -> str:
        """Return what ``npu-smi`` prints, or printed when it was asked the same before.

        Raises:
            HostError: It is missing, failed, or did not answer in time, now or before.
        """
        if arguments not in self._answers:
            try:
                self._answers[arguments] = run_npu_smi(*arguments, timeout_s=self._time_left_s(arguments))
            except HostError as exc:
                self._answers[arguments] = exc
        answer = self._answers[arguments]
        if isinstance(answer, HostError):
            raise answer
        return answer

    def _time_left_s(self, arguments: tuple[str, ...]) -> float:
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise HostError(f"npu-smi {' '.join(arguments)} was not asked: the questions before it took all the time")
        return min(TIMEOUT_S, left_s)


def is_installed() -> bool:
    """Return whether there is an ``npu-smi`` on the PATH."""
    return shutil.which("npu-smi") is not None


def run_npu_smi(*arguments: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return what ``npu-smi`` prints.

    Raises:
        HostError: It is missing, failed, or did not answer in time.
    """
    command = ["npu-smi", *arguments]
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError as exc:
        raise HostError("npu-smi must be on the PATH to list NPUs; install the Ascend driver or name cpu:N") from exc
    except subprocess.TimeoutExpired as exc:
        raise HostError(f"{shown} must answer within {timeout_s:g} s, and did not; the driver may hang") from exc
    except OSError as exc:
        raise HostError(f"{shown} could not be run: {exc}") from exc
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[0]
        raise HostError(f"{shown} must succeed, got exit code {done.returncode}: {reason}")
    return done.stdout


def parse_mapping(text: str) -> list[Chip]:
    """Return the chips of ``npu-smi info -m``, in the order of their logic ids; rows without one (the Mcu) are none."""
    chips = []
    for line in text.splitlines():
        match line.split():
            case [npu, chip, logic, *name] if npu.isdigit() and chip.isdigit() and logic.isdigit():
                chips.append(Chip(int(npu), int(chip), int(logic), " ".join(name)))
    return sorted(chips, key=lambda chip: chip.logic_id)


def parse_health(text: str) -> str:
    """Return the status of ``npu-smi info -t health -i CARD [-c DIE]``, or UNKNOWN."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip().lower().startswith("health"):
            return value.strip() or UNKNOWN
    return UNKNOWN


def parse_topology(text: str) -> dict[int, tuple[int, ...]]:
    """Return the cores near each NPU, by NPU id, from the last column of ``npu-smi info -t topo``."""
    affinity = {}
    for line in text.splitlines():
        fields = line.split()
        name = re.fullmatch(r"NPU(\d+)", fields[0]) if len(fields) > 2 else None
        if name is not None and (cores := parse_cores(fields[-1])):
            affinity[int(name[1])] = cores
    return affinity


def parse_cores(text: str) -> tuple[int, ...]:
    """Return the cores of a list such as ``0-23,48,50-51``; none if it is no such list."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return ()
    ranges = (piece.partition("-") for piece in text.split(","))
    return tuple(core for first, _, last in ranges for core in range(int(first), int(last or first) + 1))


def parse_usage(text: str) -> list[Usage]:
    """Return the chips of the table of ``npu-smi info``: two rows each, health in the first, load in the second."""
    usages = []
    first: list[str] | None = None
    for cells in _rows(text):
        if len(cells) != 3 or not cells[0][:1].isdigit():
            continue
        if first is None:
            first = cells
        else:
            usages.append(_usage(first, cells))
            first = None
    return usages


def parse_processes(text: str) -> list[NpuProcess]:
    """Return the processes below the table of ``npu-smi info``."""
    processes = []
    for cells in _rows(text):
        match cells:
            case [place, pid, name, memory] if pid.isdigit() and memory.isdigit() and len(place.split()) == 2:
                npu, chip = place.split()
                processes.append(NpuProcess(int(npu), int(chip), int(pid), name, int(memory)))
    return processes


def _usage(first: Sequence[str], second: Sequence[str]) -> Usage:
    npu_id, chip_id = int(first[0].split()[0]), int(second[0].split()[0])
    aicore = second[2].split()[0]
    pairs = _USAGE.findall(second[2])
    used, total = pairs[-1] if pairs else ("0", "0")  # HBM is the last column where the chip has it
    return Usage(npu_id, chip_id, first[1], int(aicore) if aicore.isdigit() else 0, int(used), int(total))


def _rows(text: str) -> list[list[str]]:
    lines = (line.strip() for line in text.splitlines())
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
