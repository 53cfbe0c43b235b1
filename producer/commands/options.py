"""Options that commands share, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import click

from ddim_core.broker_url import BROKER_FILE_VARIABLE, BROKER_VARIABLE, named_broker
from ddim_core.contracts.image_encoding import DEFAULT_QUALITY, ImageFormat, chosen_encoding
from ddim_core.contracts.limits import read_limits
from ddim_core.contracts.long_prompts import DEFAULT_MAX_WINDOWS, MODES
from ddim_core.contracts.plan import Container, Priority
from ddim_core.contracts.queue import DEFAULT_BROKER_URL
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError
from producer.inputs.lists import read_lists
from producer.inputs.tables import json_or_text
from producer.runs.options import RunOptions, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_DEFAULTS_FOR_REQUESTS: dict[str, tuple[type, str]] = {
    "num_inference_steps": (int, "Steps of denoising."),
    "guidance_scale": (
        float,
        "How closely images follow what they shall show; 1 or less: not guided; default: the model's.",
    ),
    "guidance_rescale": (float, "Share of the correction against over-exposed images, 0 to 1."),
    "eta": (float, "Share of fresh noise in each step: 0 is DDIM, 1 is DDPM."),
    "height": (int, "Pixels; default: the model's."),
    "width": (int, "Pixels; default: the model's."),
    "negative_prompt": (str, "What images shall not show."),
    "class_label": (str, "With a class-conditional model: the class, by its number or name."),
    "num_images_per_prompt": (int, "Images for each request."),
}
_LONG_PROMPTS = {
    "long_prompts": (
        click.Choice(MODES),
        "With prompts of more tokens than the model's text encoder takes: refuse them, cut them, or encode all of it "
        "in windows. [default: the run's; of a new one: refuse]",
    ),
    "max_windows": (
        click.IntRange(min=1),
        f"With --long-prompts chunk: the most that a prompt may take. [default: {DEFAULT_MAX_WINDOWS}]",
    ),
}


def broker_option(function: Decorated) -> Decorated:
    """Add ``--broker``."""
    return click.option(
        "--broker",
        callback=lambda _, __, given: named_broker(given, os.environ),
        metavar="URL",
        help=f"Redis between producer and workers; also {BROKER_VARIABLE}, or the URL in the file that "
        f"{BROKER_FILE_VARIABLE} names. [default: {DEFAULT_BROKER_URL}]",
    )(function)


def replay_options(function: Decorated) -> Decorated:
    """Add where images are made again."""
    models = click.option(
        "--models",
        multiple=True,
        metavar="DIR",
        help="The checkpoint's folder, or one that holds it. [default: where the rows say]",
    )
    devices = click.option(
        "--devices",
        default="auto",
        show_default=True,
        metavar="DEVICE",
        help="What to make images again on: auto, npu:0 or cpu:1.",
    )
    return devices(models(function))


def run_options(function: Decorated) -> Decorated:
    """Add what ``run`` and ``submit`` share; ``options_of`` reads it."""
    for option in reversed([*_run_as_a_whole(), *_request_defaults(), *_dry_run()]):
        function = option(function)
    return function


def options_of(given: Mapping[str, Any]) -> RunOptions:
    """Return the options that ``run_options`` added.

    Raises:
        InputError: One has a value that no run can have, or the lists cannot be read.
        UsageError: ``--out`` is missing, which only ``--plan`` can do without, or what belongs to ``--plan`` is there.
    """
    if given["out"] is None and not given["plan"]:
        raise click.UsageError("Missing option '--out'.", click.get_current_context())
    if not given["plan"] and (given["as_json"] or given["speed_from"]):
        raise click.UsageError("--json and --speed-from must stand with --plan.", click.get_current_context())
    return RunOptions(
        out=given["out"] or "",
        model=given["model"],
        variant=given["variant"],
        settings=given["settings"],
        seed=given["seed"],
        container=given["container"],
        encoding=chosen_encoding(given["image_format"], given["quality"], lossless=given["lossless"]),
        images_per_chunk=given["images_per_chunk"],
        priority=given["priority"],
        defaults=defaults_of(given),
        lists=lists_of(given),
        results=given["results"],
        limits=read_limits(os.environ),
    )


def request_options(function: Decorated) -> Decorated:
    """Add what holds for requests and not for a run as a whole; ``defaults_of`` and ``lists_of`` read it."""
    for option in reversed([*_request_defaults(), _lists()]):
        function = option(function)
    return function


def defaults_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for requests that do not give them.

    Raises:
        InputError: A scheduler's parameter is not ``KEY=VALUE``.
    """
    names = (*_DEFAULTS_FOR_REQUESTS, *_LONG_PROMPTS)
    defaults = {name: given[name] for name in names if given[name] is not None}
    if given["scheduler"]:
        defaults["scheduler"] = dict(map(_name_and_value, given["scheduler"]))
    return defaults


def lists_of(given: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Return the lists that prompts may name.

    Raises:
        InputError: They cannot be read.
    """
    return read_lists(given["lists"]) if given["lists"] else {}


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
            "--variant",
            metavar="NAME",
            help="Of the model's weights, as fp16. [default: the plain ones, or else the only variant there is]",
        ),
        click.option(
            "--settings",
            type=click.Choice(get_args(Settings)),
            default="recommended",
            show_default=True,
            help="What holds where neither a request nor an option says otherwise: what the model recommends, if it "
            "does, before diffusers' defaults; or these alone.",
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
            help="Images in tar shards; as files with a table of captions; as files named after their requests.",
        ),
        click.option(
            "--image-format",
            type=click.Choice(get_args(ImageFormat)),
            default="png",
            show_default=True,
            help="What images are encoded as; PNG loses nothing.",
        ),
        click.option(
            "--quality",
            type=int,
            metavar="1..100",
            help=f"Of jpg and webp. [default: {DEFAULT_QUALITY}]",
        ),
        click.option("--lossless", is_flag=True, help="Have webp lose nothing."),
        click.option(
            "--priority",
            type=click.Choice(get_args(Priority)),
            default="normal",
            show_default=True,
            help="Whether workers take this run's chunks before or after those of other runs.",
        ),
        click.option(
            "--images-per-chunk",
            type=int,
            metavar="N",
            help="Images that a worker takes, and a shard holds. [default: by the size of the run, 4 to 1000]",
        ),
        _lists(),
        click.option(
            "--results", is_flag=True, help="End the run with result and error lines of the OpenAI Batch form."
        ),
    ]


def _lists() -> Callable[[Decorated], Decorated]:
    return click.option(
        "--lists",
        metavar="FILE",
        help='Lists that prompts may name in braces, as JSON: {"colour": ["red", "blue"]}.',
    )


def _request_defaults() -> list[Callable[[Decorated], Decorated]]:
    options: list[Callable[[Decorated], Decorated]] = []
    for name, (kind, text) in _DEFAULTS_FOR_REQUESTS.items():
        standard = Request.model_fields[name].default
        shown = "" if standard in (None, "") or "default:" in text else f" [default: {standard:g}]"
        options.append(click.option(f"--{name.replace('_', '-')}", type=kind, help=f"{text}{shown}"))
    for name, (allowed, text) in _LONG_PROMPTS.items():
        options.append(click.option(f"--{name.replace('_', '-')}", type=allowed, help=text))
    scheduler = click.option(
        "--scheduler",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a scheduler parameter, as in timestep_spacing=trailing; may be repeated.",
    )
    return [*options, scheduler]


def _dry_run() -> list[Callable[[Decorated], Decorated]]:
    return [
        click.option("--plan", is_flag=True, help="Check everything, say what it comes to, and stop there."),
        click.option("--json", "as_json", is_flag=True, help="With --plan: print one JSON object, for programs."),
        click.option(
            "--speed-from",
            metavar="RUN_URL",
            help="With --plan: a finished run whose speed and bytes an image the estimate takes.",
        ),
    ]
