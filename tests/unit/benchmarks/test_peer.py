"""The other side of a comparison, in a process of its own: it works when it is its turn, and its end is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peer import TORCH_PYTHON, Peer, PeerError, torch_python

SIDE = """
from pathlib import Path
from benchmarks.peers.turns import take_turns, told
print("what a library says")
take_turns(lambda prompts: Path(told()["out"]).open("a").write(" ".join(prompts) + "\\n"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of scripts, with one that takes turns and one that needs what is not there."""
    (tmp_path / "side.py").write_text(SIDE)
    (tmp_path / "broken.py").write_text("import no_such_module_here")
    return tmp_path


def test_a_side_works_when_it_is_its_turn_and_ends_with_the_block(folder: Path) -> None:
    """Whatever else it prints, a turn is over when its batch is made."""
    out = folder / "made.txt"
    with Peer("side", scripts=folder, out=out) as peer:
        assert not out.exists()
        peer.run(["a", "b"])
        assert out.read_text() == "a b\n"
        peer.run(["c"])
        assert out.read_text() == "a b\nc\n"


def test_a_side_that_cannot_run_says_why(folder: Path) -> None:
    """Its last line tells what to install."""
    with pytest.raises(PeerError, match="No module named 'no_such_module_here'"):
        Peer("broken", scripts=folder)


def test_the_interpreter_of_pytorchs_side_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore and torch may live in different environments."""
    monkeypatch.delenv(TORCH_PYTHON, raising=False)
    assert torch_python() == sys.executable
    monkeypatch.setenv(TORCH_PYTHON, "/opt/other/python")
    assert torch_python() == "/opt/other/python"
