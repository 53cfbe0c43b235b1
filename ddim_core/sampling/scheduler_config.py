"""Configurations that go from one scheduler to another: what must not be lost on the way."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import mindone.diffusers

_OURS = frozenset({"timestep_pairs", "variance"})
"""Parameters that mindone's DDIMScheduler lacks: a configuration with one of them was that of ours."""
_DEFAULTS_USED = "_use_default_values"
_CHANGED_BY_PIPELINES = ("clip_sample", "steps_offset")


def in_force(config: Any) -> Any:
    """Return a scheduler's configuration so that another class keeps what a pipeline changed in it.

    mindone notes in the configuration which names the saved file left out, and forgets their values when another class
    takes it over, so that each class has its own defaults. So it forgets, as diffusers does, that Stable Diffusion's
    pipelines turned ``clip_sample`` off and set ``steps_offset=1`` after the scheduler was loaded. Here a value that is
    not the default of its class stays.
    """
    if not isinstance(config, dict) or _DEFAULTS_USED not in config:
        return config
    defaults = _defaults_of(config.get("_class_name"))
    changed = {name for name in _CHANGED_BY_PIPELINES if name in config and config[name] != defaults.get(name)}
    return {**config, _DEFAULTS_USED: [name for name in config[_DEFAULTS_USED] if name not in changed]}


def with_attributes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scheduler's configuration as its attributes are: LEdits++ sets ``scheduler.config.timestep_spacing``.

    That changes the attribute, which mindone's schedulers read, and not the mapping.
    """
    return {name: getattr(config, name, value) for name, value in config.items()}


def keep_ours(theirs: Any, ours: Any) -> None:
    """Have mindone's class make one of ours of a configuration that was ours.

    ``DDIMPipeline`` makes its scheduler anew with ``DDIMScheduler.from_config(scheduler.config)``, and a pipeline that
    is loaded again names mindone's class; both would lose, without an error, what only ours can do.
    """
    made_by_mindone: Callable[..., Any] = theirs.from_config.__func__

    def from_config(cls: Any, /, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        if cls is theirs and isinstance(config, dict) and not _OURS.isdisjoint(config):
            return ours.from_config(config, return_unused_kwargs, **kwargs)
        return made_by_mindone(cls, config, return_unused_kwargs, **kwargs)

    theirs.from_config = classmethod(from_config)


def _defaults_of(class_name: object) -> dict[str, Any]:
    """Return the defaults of the scheduler that a configuration names, or of DDIM's where it names none."""
    named = getattr(mindone.diffusers, class_name, None) if isinstance(class_name, str) else None
    parameters = inspect.signature((named or mindone.diffusers.DDIMScheduler).__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}
