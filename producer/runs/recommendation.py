"""The settings that a checkpoint recommends, as defaults of a run below those that it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from producer.requests.model import Model
from producer.runs.options import RunOptions


def with_recommended(options: RunOptions, model: Model) -> tuple[RunOptions, Model]:
    """Return the options with what the model recommends under the defaults that were given.

    The model comes back with no more recommendations than hold.
    """
    given = options.defaults
    scheduler: Mapping[str, Any] = given.get("scheduler", {})
    held = {name: value for name, value in model.recommended.items() if name not in given}
    defaults = {**held, **given}
    if recommended := {n: v for n, v in model.recommended.get("scheduler", {}).items() if n not in scheduler}:
        held["scheduler"], defaults["scheduler"] = recommended, {**recommended, **scheduler}
    return replace(options, defaults=defaults), replace(model, recommended=held)


def without_recommended(defaults: Mapping[str, Any], model: Model) -> Model:
    """Return a model with those of its recommendations alone that a plan's defaults hold."""
    return replace(model, recommended={n: v for n, v in model.recommended.items() if defaults.get(n) == v})
