"""The entry point of ``ddim-fleet``: finds the command, and turns what went wrong into one line and an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from ddim_core.broker_url import secrets_of
from ddim_core.errors import FleetError, RequestFaults
from ddim_core.hiding import current_traceback, without_controls, without_secrets
from ddim_core.version import __version__
from producer.requests.suggestions import did_you_mean

BAD_INPUT = 1
SYSTEM_FAILED = 2
INTERRUPTED = 130

COMMANDS = {
    "run": "Make images on this machine, with Redis and workers inside.",
    "submit": "Plan a run and queue it for the workers.",
    "worker": "Serve this host's devices.",
    "status": "Print how far a run is.",
    "watch": "Follow a run until it ends.",
    "cancel": "Stop a run; what is finished of it is kept.",
    "resume": "Queue what is missing of a run; with --failed, its failed images, too.",
    "pause": "Have workers leave a run alone for a while.",
    "continue": "Go on with a run that was paused.",
    "failed": "List the images of a run that could not be made.",
    "extend": "Add requests to a run.",
    "extract": "Write images of a run, all or some, to a folder as files.",
    "verify": "Check a finished run, file by file, against its manifest.",
    "replay": "Make images of a run again, each from its row alone.",
    "drain": "Take a host, or one of its devices, out of service.",
    "uncordon": "Put a host or a device back into service.",
    "report": "Write a run's report as a web page.",
    "models": "List the checkpoints that there are; make one of a single file.",
    "doctor": "Say what is missing on this host, and how to mend it.",
}
"""Name and help of each command; its module, ``producer.commands.<name>``, is imported when the command is used."""
_MODULES = {"continue": "go_on"}
"""Modules of commands whose name Python keeps for itself."""


class LazyGroup(click.Group):
    """A group that imports a command only to run it, so that ``--help`` does not wait for pyarrow and Celery."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Import a command.

        Raises:
            UsageError: There is none of that name.
        """
        if cmd_name not in COMMANDS:
            close = get_close_matches(cmd_name, COMMANDS, n=1)
            ctx.fail(f"No such command {cmd_name!r}{f'; did you mean {close[0]}?' if close else '.'}")
        command: click.Command = import_module(f"producer.commands.{_MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' help without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_HELP = """Make images in bulk with DDIM diffusion models, on one machine or on a fleet of Ascend NPUs.

\b
A first run, with a small model that comes along:
    ddim-fleet run prompts.txt --out ./images

\b
Exit codes: 0 all images made, 1 bad input or usage, 2 the system failed,
3 some requests failed, 130 interrupted. With --debug, errors come with
the place in the program that they come from.
"""


@click.command(cls=LazyGroup, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ddim-fleet")
def cli() -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line and exit."""
    sys.exit(exit_code_of(sys.argv[1:]))


def exit_code_of(arguments: Sequence[str]) -> int:
    """Run the command line, and return the code to exit with.

    ``--debug`` may stand anywhere before the arguments that are a worker's.
    """
    debug = "--debug" in arguments and "worker" not in arguments[:1]
    wanted = [argument for argument in arguments if argument != "--debug"] if debug else list(arguments)
    try:
        return int(cli.main(wanted, prog_name="ddim-fleet", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("ddim-fleet: interrupted", err=True)
        return INTERRUPTED
    except Exception as exc:
        secrets = secrets_of(os.environ, *arguments)
        if debug:
            click.echo(current_traceback(secrets), err=True)
        code, message = _explained(exc)
        click.echo(f"ddim-fleet: error: {without_controls(without_secrets(message, secrets))}", err=True)
        return code


def _explained(exc: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and what it says to a person."""
    if isinstance(exc, click.NoSuchOption) and exc.ctx:
        known = [option.lstrip("-").replace("-", "_") for each in exc.ctx.command.params for option in each.opts]
        hint = did_you_mean(exc.option_name.lstrip("-"), known)
        options = re.sub(r"\w+(?=\?| or | and )", lambda name: f"--{name[0].replace('_', '-')}", hint)
        return BAD_INPUT, f"No such option: {exc.option_name}{options} (see '{exc.ctx.command_path} --help')"
    if isinstance(exc, click.UsageError):
        where = exc.ctx.command_path if exc.ctx else "ddim-fleet"
        return BAD_INPUT, f"{exc.format_message()} (see '{where} --help')"
    if isinstance(exc, click.ClickException):
        return BAD_INPUT, exc.format_message()
    if isinstance(exc, RequestFaults):
        count = "1 fault" if exc.total == 1 else f"{exc.total} faults"
        return exc.exit_code, f"{count} in the requests; nothing was written or queued\n{exc}"
    if isinstance(exc, FleetError):
        return exc.exit_code, str(exc)
    return SYSTEM_FAILED, f"{type(exc).__name__}: {exc}; this is a fault of the program, --debug shows where"
