"""Every exception that the project raises on purpose, in one tree.

An error carries its facts as attributes and reads as one line for a person. The class decides the exit code of the
command line: 1 for input that must be mended, 2 for a system that failed. Its ``code`` is the word for programs: what a
failed row says, what ``errors.jsonl`` says. Codes stay as they are; a class without one of its own has its parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FleetError(Exception):
    """Something failed that the caller may want to tell apart; ``exit_code`` is what the command line ends with."""

    exit_code = 2
    code = "failed"


class InputError(FleetError):
    """What the caller gave cannot be used; nothing was queued or written."""

    exit_code = 1
    code = "invalid_request"


class ScheduleError(InputError, ValueError):
    """A scheduler configuration, step count or eta for which no DDIM schedule exists."""


class CheckpointError(InputError):
    """A checkpoint folder that is incomplete, unsafe to load, or of a kind that cannot be sampled."""

    code = "checkpoint_unusable"


class RunExistsError(InputError):
    """The output URL already holds a run."""


class RunNotFoundError(InputError):
    """The URL holds no run."""


class RunUnfinishedError(InputError):
    """The run has no manifest yet, and what was asked for needs one."""


class StorageError(FleetError):
    """The object store refused, failed or did not answer."""

    code = "storage_failed"


class ChunkDamagedError(StorageError):
    """A chunk's file is missing from its run, or does not hold the chunk's images; asking again brings the same."""


class OutputError(StorageError, InputError):
    """The output URL cannot be used: unknown scheme, not writable, or misspelt."""

    exit_code = 1


class BrokerError(FleetError):
    """Redis did not answer, or refused."""


class DeviceError(FleetError):
    """The device, or MindSpore on it, failed; all samples that shared the batch are affected."""

    code = "device_failed"


class OutOfMemoryError(DeviceError):
    """The device has too little memory for the number of slots asked of it; of a sample: for a batch of one slot."""

    code = "out_of_memory"


class SuspectedError(DeviceError):
    """The device failed while some images had it to themselves: that is noted against them, not against their chunk."""


class SampleError(FleetError):
    """One sample failed and its neighbours did not."""

    code = "sample_failed"


class NotFiniteError(SampleError):
    """One sample's numbers became NaN or infinity."""

    code = "not_finite"


class LimitExceededError(SampleError):
    """A request, or its run, asks for more than the operator of this fleet allows; its images are never begun."""

    code = "limit_exceeded"


class PromptTooLongError(SampleError):
    """A prompt is longer than its checkpoint's text encoder takes, and nothing says to do without the rest."""

    code = "prompt_too_long"


class DeadlineExceededError(SampleError):
    """One sample was not finished in the time that whoever asked for it had, or that a device may stand still."""

    code = "deadline_exceeded"


class WorkerLostError(SampleError):
    """One sample ended the process that made it, again and again, with nothing else on the device."""

    code = "worker_lost"


class RunHaltedError(FleetError):
    """The run was cancelled or paused while something of it was being made."""


class WorkerEndsError(FleetError):
    """The worker was asked to end while something was being made; others make it."""


class HostError(FleetError):
    """This host lacks something that a worker needs, such as a device or MindSpore itself."""

    code = "host_unusable"


UNFORESEEN = "internal_error"
"""The code of what is raised and is none of ours."""


def code_of(exc: BaseException) -> str:
    """Return the word for programs that says what kind of failure an exception is."""
    return exc.code if isinstance(exc, FleetError) else UNFORESEEN


def code_of_class(name: str) -> str:
    """Return the code of the exception class of this name; rows from before there were codes hold nothing else."""
    kind = globals().get(name)
    return kind.code if isinstance(kind, type) and issubclass(kind, FleetError) else UNFORESEEN


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the input, and where a person can mend it; reads as ``<place>: <field> <rule>``."""

    source: str
    line: int | None
    field: str | None
    rule: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        text = f"{place}: {self.rule}" if self.field is None else f"{place}: {self.field} {self.rule}"
        return text.encode(errors="backslashreplace").decode()  # a name may hold half a surrogate pair


class RequestFaults(InputError):
    """The requests have faults: the first ones are in ``faults``, in the order of the input; ``total`` counts all."""

    def __init__(self, faults: Sequence[Fault], total: int | None = None) -> None:
        self.faults = tuple(faults)
        self.total = len(self.faults) if total is None else total
        more = [f"and {self.total - len(self.faults)} more"] if self.total > len(self.faults) else []
        super().__init__("\n".join([*map(str, self.faults), *more]))
