"""Options that commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import click

from ddim_core.contracts.plan import Container
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError
from producer.planning import RunOptions
from producer.tables import json_or_text

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_DEFAULTS_FOR_REQUESTS: dict[str, tuple[type, str]] = {
    "num_inference_steps": (int, "Steps of denoising."),
    "guidance_scale": (float, "How closely images follow their prompts; 1 or less turns guidance off."),
    "guidance_rescale": (float, "Share of the correction against over-exposed images, 0 to 1."),
    "eta": (float, "Share of fresh noise in each step: 0 is DDIM, 1 is DDPM."),
    "height": (int, "Pixels; default: the model's."),
    "width": (int, "Pixels; default: the model's."),
    "negative_prompt": (str, "What images shall not show."),
    "num_images_per_prompt": (int, "Images for each request."),
}


def broker_option(function: Decorated) -> Decorated:
    """Add ``--broker``."""
    return click.option(
        "--broker",
        envvar="DDIM_FLEET_BROKER",
        metavar="URL",
        help="Redis between producer and workers; also DDIM_FLEET_BROKER. [default: redis://127.0.0.1:6379/0]",
    )(function)


def run_options(function: Decorated) -> Decorated:
    """Add what ``run`` and ``submit`` share; ``options_of`` reads it."""
    for option in reversed([*_run_as_a_whole(), *_request_defaults()]):
        function = option(function)
    return function


def options_of(given: Mapping[str, Any]) -> RunOptions:
    """Return the options that ``run_options`` added.

    Raises:
        InputError: One has a value that no run can have.
        UsageError: ``--out`` is missing.
    """
    if given["out"] is None:
        raise click.UsageError("Missing option '--out'.", click.get_current_context())
    defaults = {name: given[name] for name in _DEFAULTS_FOR_REQUESTS if given[name] is not None}
    if given["scheduler"]:
        defaults["scheduler"] = dict(map(_name_and_value, given["scheduler"]))
    return RunOptions(
        out=given["out"],
        model=given["model"],
        seed=given["seed"],
        container=given["container"],
        images_per_chunk=given["images_per_chunk"],
        defaults=defaults,
    )


def _name_and_value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--scheduler must be KEY=VALUE, as in timestep_spacing=trailing, got {text!r}")
    return name, json_or_text(value)


def _run_as_a_whole() -> list[Callable[[Decorated], Decorated]]:
    return [
        click.option("--out", metavar="URL", help="The run's folder: a path, file:// or s3:// URL."),
        click.option(
            "--model",
            default="shapes",
            show_default=True,
            metavar="NAME_OR_PATH",
            help="A checkpoint folder in diffusers' format, or the small one that comes along.",
        ),
        click.option(
            "--seed", default=0, show_default=True, help="What the seeds of requests that name none follow from."
        ),
        click.option(
            "--format",
            "container",
            type=click.Choice(get_args(Container)),
            default="webdataset",
            show_default=True,
            help="Images in tar shards, or as files of their own.",
        ),
        click.option(
            "--images-per-chunk",
            type=int,
            metavar="N",
            help="Images that a worker takes, and a shard holds. [default: by the size of the run, 4 to 1000]",
        ),
    ]


def _request_defaults() -> list[Callable[[Decorated], Decorated]]:
    options: list[Callable[[Decorated], Decorated]] = []
    for name, (kind, text) in _DEFAULTS_FOR_REQUESTS.items():
        standard = Request.model_fields[name].default
        shown = "" if standard in (None, "") else f" [default: {standard:g}]"
        options.append(click.option(f"--{name.replace('_', '-')}", type=kind, help=f"{text}{shown}"))
    scheduler = click.option(
        "--scheduler",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a scheduler parameter, as in timestep_spacing=trailing; may be repeated.",
    )
    return [*options, scheduler]
