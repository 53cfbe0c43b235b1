"""Whatever goes wrong becomes a line for a person and an exit code for a script."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import click
import pytest

from ddim_core.errors import BrokerError, Fault, InputError, RequestFaults
from ddim_core.version import __version__
from producer import main
from producer.main import COMMANDS, exit_code_of


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> object:
    """Let the command ``status`` raise what a test wants."""

    def set_up(exc: BaseException) -> None:
        def command(**_: object) -> None:
            raise exc

        broken = click.Command("status", callback=command)
        monkeypatch.setitem(sys.modules, "producer.commands.status", SimpleNamespace(command=broken))

    return set_up


@pytest.mark.parametrize(
    ("exc", "code", "line"),
    [
        (InputError("the sky must be blue, got red"), 1, "the sky must be blue, got red"),
        (BrokerError("Redis is away"), 2, "Redis is away"),
        (click.FileError("x", "no"), 1, "Could not open file 'x': no"),
        (ZeroDivisionError("by 0"), 2, "ZeroDivisionError: by 0; this is a fault of the program, --debug shows where"),
        (
            RequestFaults([Fault("p", 1, "eta", "must be small")], 2),
            1,
            "2 faults in the requests; nothing was written or queued\np:1: eta must be small\nand 1 more",
        ),
    ],
)
def test_an_error_is_told_and_has_its_code(
    fail_with: object, capsys: pytest.CaptureFixture[str], exc: BaseException, code: int, line: str
) -> None:
    """Bad input is 1, a failed system 2."""
    assert callable(fail_with)
    fail_with(exc)
    assert exit_code_of(["status"]) == code
    assert capsys.readouterr() == ("", f"ddim-fleet: error: {line}\n")


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_no_error(fail_with: object, capsys: pytest.CaptureFixture[str], exc: BaseException) -> None:
    """A shell's code for Ctrl-C tells a script."""
    assert callable(fail_with)
    fail_with(exc)
    assert exit_code_of(["status"]) == 130
    assert capsys.readouterr().err.strip() == "ddim-fleet: interrupted"


@pytest.mark.parametrize("arguments", [["--debug", "status"], ["status", "--debug"]])
def test_a_traceback_shows_only_if_asked_for(
    fail_with: object, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Wherever the option stands."""
    assert callable(fail_with)
    fail_with(InputError("no"))
    assert exit_code_of(arguments) == 1
    assert re.match(r"Traceback(?s:.*)InputError: no\nddim-fleet: error: no\n$", capsys.readouterr().err)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And each of them has a module and help of its own."""
    assert exit_code_of(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", text, re.M)
        command = main.cli.get_command(click.Context(main.cli), name)
        assert command.name == name


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "worker"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A person may ask any of them; the workers answer for theirs."""
    assert exit_code_of([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: ddim-fleet {name} ")


def test_no_command_shows_the_help_and_an_unknown_one_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Both are usage errors, of which the code is 1 and not click's own 2."""
    assert exit_code_of([]) == 1
    assert "Commands:" in capsys.readouterr().err
    assert exit_code_of(["rnu"]) == 1
    message = r"ddim-fleet: error: No such command 'rnu'; did you mean run\? \(see 'ddim-fleet --help'\)$"
    assert re.match(message, capsys.readouterr().err)
    assert exit_code_of(["x"]) == 1
    assert capsys.readouterr().err == "ddim-fleet: error: No such command 'x'. (see 'ddim-fleet --help')\n"


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """One place says it."""
    assert exit_code_of(["--version"]) == 0
    assert capsys.readouterr().out == f"ddim-fleet, version {__version__}\n"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--steps", "; did you mean --num-inference-steps?"),
        ("--cfg-scale", "; did you mean --guidance-scale?"),
        ("--size", "; did you mean --width and --height?"),
        ("--guidance-scal", "; did you mean --guidance-scale?"),
        ("--zzz", ""),
    ],
)
def test_an_option_of_other_programs_is_answered_with_ours(
    capsys: pytest.CaptureFixture[str], option: str, hint: str
) -> None:
    """As fields of requests are."""
    assert exit_code_of(["submit", "p.jsonl", option, "3"]) == 1
    line = f"ddim-fleet: error: No such option: {option}{hint} (see 'ddim-fleet submit --help')\n"
    assert capsys.readouterr().err == line
