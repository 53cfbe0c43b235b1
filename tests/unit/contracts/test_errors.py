"""An error says what the command line ends with, and reads as one line."""

from __future__ import annotations

import pytest

from ddim_core import errors
from ddim_core.errors import Fault, FleetError, InputError, RequestFaults, code_of, code_of_class


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("p.jsonl", 3, "eta", "must be small, got 2"), "p.jsonl:3: eta must be small, got 2"),
        (Fault("p.jsonl", 3, None, "the line must be JSON"), "p.jsonl:3: the line must be JSON"),
        (Fault("defaults", None, "eta", "must be small"), "defaults: eta must be small"),
    ],
)
def test_a_fault_reads_like_a_compilers(fault: Fault, text: str) -> None:
    """Editors jump to such a place."""
    assert str(fault) == text


def test_many_faults_say_how_many_more_there_are() -> None:
    """The attributes carry what the text leaves out."""
    fault = Fault("p", 1, None, "must be mended")
    assert str(RequestFaults([fault, fault])) == "p:1: must be mended\np:1: must be mended"
    cut = RequestFaults([fault], total=3)
    assert (str(cut), cut.total, cut.faults) == ("p:1: must be mended\nand 2 more", 3, (fault,))


def test_every_error_has_the_exit_code_of_its_branch() -> None:
    """Input that must be mended is 1, all else 2."""
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FleetError)]
    assert len(tree) > 10
    assert {each.__name__ for each in tree if each.exit_code == 1} == {
        each.__name__ for each in tree if issubclass(each, InputError)
    }
    assert {each.exit_code for each in tree} == {1, 2}


def test_a_failure_has_a_word_for_programs() -> None:
    """They are part of what a run leaves, so none may change; the name of the class, which may, leads to the same."""
    codes = {
        "OutOfMemoryError": "out_of_memory",
        "NotFiniteError": "not_finite",
        "WorkerLostError": "worker_lost",
        "DeadlineExceededError": "deadline_exceeded",
        "DeviceError": "device_failed",
        "SampleError": "sample_failed",
        "ScheduleError": "invalid_request",
        "CheckpointError": "checkpoint_unusable",
    }
    assert {name: code_of(getattr(errors, name)("why")) for name in codes} == codes
    assert {name: code_of_class(name) for name in codes} == codes
    assert code_of(ValueError("a bug")) == code_of_class("ValueError") == code_of_class("Fault") == "internal_error"


def test_codes_are_words_that_programs_take() -> None:
    """Small letters and underscores."""
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, FleetError)]
    assert all(each.code.replace("_", "").isalpha() and each.code.islower() for each in tree)
