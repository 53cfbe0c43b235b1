"""What a request asks to have drawn: a prompt, a class, or nothing, as its checkpoint takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ddim_core.checkpoints.pipelines import Takes
from ddim_core.errors import InputError
from producer.requests.messages import got
from producer.requests.model import Model

_OF_PROMPTS = ("prompt", "negative_prompt")
_WANTS: dict[Takes, str] = {"prompt": "a prompt", "class_label": "a class_label", "nothing": "no condition"}


def fill_in(fields: dict[str, Any], model: Model) -> list[tuple[str, str]]:
    """Give a request's fields their class and caption; return the fields that are wrong, with the rule each breaks.

    A class becomes its index, and the prompt becomes what its images are said to show, which manifests, shards and
    tables call their text. Without a condition it stays empty. A field that is wrong is taken out.
    """
    if model.takes == "prompt":
        return list(_prompt_faults(fields, model))
    faults = list(_stray(fields, model, _OF_PROMPTS))
    if model.takes == "nothing":
        faults += _stray(fields, model, ("class_label",))
        faults += _guidance_faults(fields, model)
        return faults
    try:
        index = _class_of(fields.get("class_label"), model)
    except InputError as exc:
        fields.pop("class_label", None)
        return [*faults, ("class_label", str(exc))]
    assert model.labels is not None
    fields |= {"class_label": index, "prompt": model.labels.caption(index)}
    return faults


def _prompt_faults(fields: dict[str, Any], model: Model) -> Iterator[tuple[str, str]]:
    if "prompt" not in fields:
        yield "prompt", f"must be given with {model.name}"
    yield from _stray(fields, model, ("class_label",))


def _guidance_faults(fields: Mapping[str, Any], model: Model) -> Iterator[tuple[str, str]]:
    scale = fields["guidance_scale"]
    if isinstance(scale, float | int) and scale > 1:
        yield "guidance_scale", f"must be at most 1 with {model.name}, which takes no condition, got {scale}"


def _stray(fields: dict[str, Any], model: Model, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        given = fields.pop(name, None)
        if given not in (None, ""):
            yield name, f"must be left out with {model.name}, which takes {_WANTS[model.takes]}, got {got(given)}"


def _class_of(label: Any, model: Model) -> int:
    """Return the class that a label names.

    Raises:
        InputError: It names none; the message is the rule it breaks.
    """
    assert model.labels is not None
    if label is None:
        raise InputError(f"must be given with {model.name}, from 0 to {model.labels.count - 1}")
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise InputError(f"must be a whole number or a label, got {got(label)}")
    return model.labels.index(label, model.name)
