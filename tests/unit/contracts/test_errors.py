"""An error says what the command line ends with, and reads as one line."""

from __future__ import annotations

import pytest

from ddim_core import errors
from ddim_core.errors import Fault, FleetError, InputError, RequestFaults


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
