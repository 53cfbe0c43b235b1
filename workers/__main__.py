"""The command line of the workers: ``python -m workers``, which people reach as ``ddim-fleet worker``."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

from ddim_core.broker_url import BROKER_FILE_VARIABLE, BROKER_VARIABLE, named_broker, secrets_of
from ddim_core.contracts.hosts import checked_host
from ddim_core.contracts.limits import read_limits
from ddim_core.contracts.queue import DEFAULT_BROKER_URL, DEFAULT_QUEUE
from ddim_core.contracts.sample import Size
from ddim_core.errors import FleetError, HostError, InputError
from ddim_core.hiding import current_traceback, without_secrets
from workers.coordination.connection import Board
from workers.devices.choose import FORMS, choose_devices
from workers.devices.survey import check, survey
from workers.logs import LOG_LEVELS, set_up_logging
from workers.settings import CHUNKS_IN_FLIGHT, DRAIN_TIMEOUT_S, STALL_TIMEOUT_S, WorkerSettings
from workers.supervisor.health import HealthWatch
from workers.supervisor.restarts import MAX_DEATHS
from workers.supervisor.supervisor import Launcher

PROGRAM = "ddim-fleet worker"
_WATCHED = ("auto", "npu")
"""What is asked for so is taken out of service when its health is bad; who names an NPU has it in any state."""
LAST_PORT = 65535


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--devices", default="auto", show_default=True, help=f"What to serve: {FORMS}.")
@click.option("--cores", metavar="LIST", help="Cores to use, such as 0-3,8; default: all that this process may.")
@click.option("--host-name", metavar="NAME", help="What status, drain and rows call this host; default: its own name.")
@click.option("--broker", help=f"Redis; by default ${BROKER_VARIABLE}, or the URL in the file ${BROKER_FILE_VARIABLE}.")
@click.option("--queue", default=DEFAULT_QUEUE, show_default=True, help="Queue to take chunks from.")
@click.option(
    "--models",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="A checkpoint's folder, or one that holds some; may be repeated.",
)
@click.option("--slots", type=click.IntRange(1, 4096), help="Images that a device denoises at once.")
@click.option("--sizes", default="", help="Sizes to compile for at the start, such as 512x512,768x512.")
@click.option("--memory-limit", type=click.FloatRange(0.1), help="GiB that a batch must fit; else the device's own.")
@click.option("--chunks-in-flight", type=click.IntRange(1, 64), default=CHUNKS_IN_FLIGHT, show_default=True)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    default=DRAIN_TIMEOUT_S,
    show_default=True,
    help="Seconds that chunks in hand may go on after a signal to end; then they are given back.",
)
@click.option(
    "--max-deaths",
    type=click.IntRange(1),
    default=MAX_DEATHS,
    show_default=True,
    help="Deaths in a row, without an image, after which a device is taken out of service.",
)
@click.option(
    "--stall-timeout",
    type=click.FloatRange(1),
    default=STALL_TIMEOUT_S,
    show_default=True,
    help="Seconds that a device with images on it may stand still before its process is ended.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False), default="INFO", show_default=True)
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve figures for Prometheus; off by default.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address for them.")
@click.option("--debug", is_flag=True, help="Show a traceback where a command fails.")
@click.pass_context
def command(context: click.Context, /, devices: str, broker: str | None, **options: Any) -> None:
    """Serve this host's devices: one worker process each, until a signal.

    The first has chunks in hand finished, the second has them given back, the third kills.

    Without --devices these are the NPUs, or, where there are none, up to two processes on the CPU.
    """
    if context.invoked_subcommand is not None:
        return
    broker_url = named_broker(broker, os.environ) or DEFAULT_BROKER_URL
    log_level = options["log_level"].upper()
    set_up_logging(log_level, "launcher", secrets_of(os.environ, broker_url))
    board = Board(broker_url)
    sizes = tuple(str(Size.parse(size)) for size in options["sizes"].split(",") if size)
    memory_limit_bytes = None if options["memory_limit"] is None else int(options["memory_limit"] * 2**30)
    limits = read_limits(os.environ)
    chosen = choose_devices(devices, options["cores"])
    host = checked_host(options["host_name"]) if options["host_name"] else socket.gethostname()
    settings = [
        WorkerSettings(
            device=device,
            broker_url=broker_url,
            host=host,
            queue=options["queue"],
            models=options["models"],
            slots=options["slots"],
            sizes=sizes,
            memory_limit_bytes=memory_limit_bytes,
            metrics_port=port,
            metrics_host=options["metrics_host"],
            chunks_in_flight=options["chunks_in_flight"],
            drain_timeout_s=options["drain_timeout"],
            stall_timeout_s=options["stall_timeout"],
            log_level=log_level,
            limits=limits,
        )
        for device, port in zip(chosen, metrics_ports(options["metrics_port"], len(chosen)), strict=True)
    ]
    health = HealthWatch() if devices in _WATCHED and chosen[0].kind == "npu" else None
    context.exit(Launcher.of(settings, board, max_deaths=options["max_deaths"], health=health).run())


def metrics_ports(first: int | None, count: int) -> list[int | None]:
    """Return the port of each process: the first one's is ``first``, and the next one's the next.

    Raises:
        InputError: They do not end where ports do.
    """
    if first is None:
        return [None] * count
    if first + count - 1 > LAST_PORT:
        raise InputError(f"--metrics-port must leave a port to each of {count} devices up to {LAST_PORT}, got {first}")
    return list(range(first, first + count))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--check", "checks", is_flag=True, help="Fail unless an NPU would be served that is not known to be sick."
)
def devices(as_json: bool, checks: bool) -> None:
    """List this host's devices and what they have to do.

    Exit code 0: there are some to serve; with --check: there is an NPU to serve, and it is not known to be sick.
    """
    found = survey()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for device in found["devices"]:
            left_out = "" if device["chosen"] else "  not served unless named"
            click.echo(f"{device['device']}  {device['name'] or device['kind']}  {device['health']}{left_out}")
    if checks:
        check(found)
    if found["error"] and not as_json:
        raise HostError(found["error"])
    if found["trouble"] and not as_json:
        click.echo(f"{PROGRAM}: served by the only device file there is: {found['trouble']}", err=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code. An error is one line, with ``--debug`` a traceback before it."""
    given = sys.argv[1:] if arguments is None else arguments
    return _guarded(lambda: command.main(given, prog_name=PROGRAM, standalone_mode=False), given)


def _guarded(run: Callable[[], Any], given: list[str]) -> int:
    debug, secrets = "--debug" in given, secrets_of(os.environ, *given)
    try:
        return int(run() or 0)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        return 2
    except click.ClickException as exc:
        exc.show()
        return 1
    except FleetError as exc:
        if debug:
            click.echo(current_traceback(secrets), err=True)
        click.echo(f"{PROGRAM}: {without_secrets(str(exc), secrets)}", err=True)
        return exc.exit_code
    except Exception as exc:  # a fault of this program, or of the system, that nobody foresaw
        if debug:
            click.echo(current_traceback(secrets), err=True)
        what = without_secrets(f"{type(exc).__name__}: {exc}", secrets)
        click.echo(f"{PROGRAM}: failed in a way nobody foresaw, --debug shows where: {what}", err=True)
        return FleetError.exit_code


if __name__ == "__main__":
    sys.exit(main())
