"""Pipelines of mindone's that take a DDIM scheduler: which there are, and each of small networks of random weights."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tests.tiny_networks import SIDE_PX
from tests.tiny_parts import CALLS, PARTS

_WORD = re.compile(r"\w+")
_DDIM = {"DDIMScheduler", "KarrasDiffusionSchedulers"}


@cache
def takers() -> dict[str, str]:
    """Return the classes of mindone that name DDIM's scheduler in their constructor, each with its module."""
    spec = importlib.util.find_spec("mindone")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    found = {}
    for file in sorted((root / "diffusers/pipelines").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(_takes_ddim(part) for part in node.body):
                found[node.name] = ".".join(("mindone", *file.relative_to(root).with_suffix("").parts))
    return found


def _takes_ddim(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
        return False
    annotations = (ast.unparse(each.annotation) for each in node.args.args if each.annotation is not None)
    return any(_DDIM & set(_WORD.findall(annotation)) for annotation in annotations)


@cache
def pipeline_class(name: str) -> Any:
    """Return a class that ``takers`` names; librosa, with which two rate sounds, may be missing."""
    missing = importlib.util.find_spec("librosa") is None
    if missing:
        sys.modules["librosa"] = ModuleType("librosa")
    try:
        return getattr(importlib.import_module(takers()[name]), name)
    finally:
        if missing:
            del sys.modules["librosa"]


def build(name: str, scheduler: Any) -> Any:
    """Return a pipeline around ``scheduler``, of small networks with seeded random weights.

    A part that no factory here makes is left out, as it is where a pipeline is loaded without it.
    """
    own = {**PARTS.get(_family(name), {}), **PARTS.get(name, {})}
    parts: dict[str, Any] = {}
    for parameter in list(inspect.signature(pipeline_class(name).__init__).parameters.values())[1:]:
        if "scheduler" in parameter.name:
            parts[parameter.name] = _scheduler(name, parameter.name, scheduler)
        elif parameter.name in own:
            parts[parameter.name] = own[parameter.name]()
        elif parameter.default is inspect.Parameter.empty:
            parts[parameter.name] = None
    pipe = pipeline_class(name)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(name: str, pipe: Any) -> Any:
    """Return the first of the outputs of a pipeline that takes two or three steps; the same for equal schedulers."""
    given = {**_inputs(), **CALLS.get(name, {})}
    given = {key: value() if callable(value) else value for key, value in given.items()}
    if hasattr(pipe, "invert") and name.startswith("LEdits"):
        # It finds the noise of a picture before it edits it; the larger part of what it asks a scheduler for.
        pipe.invert(given["image"], source_prompt="", num_inversion_steps=4, generator=given["generator"])
        options = {"editing_prompt": ["a blue circle"], "edit_guidance_scale": 3.0, "output_type": "np"}
        edited = pipe(**options, use_cross_attn_mask=False, use_intersect_mask=False)
        return edited[0]
    if hasattr(pipe, "set_scheduler"):
        pipe.set_scheduler("sample_euler")
    if name == "StableDiffusionDiffEditPipeline":
        given |= _edited(pipe, given)
    known = inspect.signature(pipe.__call__).parameters
    with mock.patch.object(np.random, "default_rng", _seeded):
        outputs = pipe(**{name: value for name, value in given.items() if name in known})
    if isinstance(outputs[0], tuple):  # colours and depths
        return np.concatenate([each.ravel() / each.max() for each in outputs[0]])
    return outputs[0]


def _seeded(seed: Any = 0) -> np.random.Generator:
    """Make the noise that some pipelines draw without the generator they are given the same, whoever draws it."""
    return np.random.Generator(np.random.PCG64(seed))


def _edited(pipe: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what DiffEdit finds before it edits: where to, and the noise of the picture."""
    both = {"image": given["image"], "num_inference_steps": 3, "generator": given["generator"]}
    mask = pipe.generate_mask(source_prompt="a star", target_prompt="a circle", num_maps_per_mask=1, **both)
    return {"mask_image": mask, "image_latents": pipe.invert(prompt="a star", **both)[0]}


def _family(name: str) -> str:
    if "XL" in name and name not in ("I2VGenXLPipeline",):
        return "sdxl"
    return "sd"


def _scheduler(name: str, parameter: str, ours: Any) -> Any:
    from mindone.diffusers import DDIMInverseScheduler, DDPMScheduler, UnCLIPScheduler

    if parameter == "inverse_scheduler":
        return DDIMInverseScheduler.from_config(ours.config)
    if parameter == "low_res_scheduler":
        return DDPMScheduler()
    if parameter == "prior_scheduler":
        return UnCLIPScheduler(prediction_type="sample", variance_type="fixed_small_log", clip_sample_range=5.0)
    return ours


def _inputs() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    mask = Image.fromarray(
        np.where(np.arange(SIDE_PX) < SIDE_PX // 2, 255, 0).astype(np.uint8)[None].repeat(SIDE_PX, 0)
    )
    return {
        "prompt": "a red star",
        "image": picture,
        "mask_image": mask,
        "control_image": picture,
        "example_image": picture,
        "num_inference_steps": 3,
        "strength": 0.9,
        "guidance_scale": 2.0,
        "height": SIDE_PX,
        "width": SIDE_PX,
        "num_frames": 2,
        "video": [picture] * 2,
        "generator": np.random.default_rng(0),
        "output_type": "np",
        "eta": 1.0,
    }
