"""What folders of each kind of pipeline say of themselves, and which of them are refused. No MindSpore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddim_core.checkpoints import describe, digest
from ddim_core.errors import CheckpointError

VAE = {"latent_channels": 4, "block_out_channels": [128, 256, 512, 512]}
KINDS: dict[str, dict[str, Any]] = {
    "StableDiffusionXLPipeline": {
        "index": {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "force_zeros_for_empty_prompt": True,
        },
        "scheduler": {"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear"},
        "unet": {"in_channels": 4, "out_channels": 4, "sample_size": 128, "addition_embed_type": "text_time"},
        "vae": {**VAE, "force_upcast": True},
        "text_encoder": {},
        "text_encoder_2": {},
    },
    "DiTPipeline": {
        "index": {
            "transformer": ["diffusers", "Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "id2label": {"0": "tench, Tinca tinca", "1": "goldfish"},
        },
        "scheduler": {"_class_name": "DDIMScheduler", "clip_sample": False},
        "transformer": {"in_channels": 4, "out_channels": 8, "sample_size": 32, "num_embeds_ada_norm": 1000},
        "vae": VAE,
    },
    "DDPMPipeline": {
        "index": {"unet": ["diffusers", "UNet2DModel"]},
        "scheduler": {"_class_name": "DDPMScheduler", "clip_sample": True, "variance_type": "fixed_large"},
        "unet": {"in_channels": 3, "out_channels": 3, "sample_size": 256, "block_out_channels": [8, 8, 8]},
    },
}
SDXL, DIT, DDPM = KINDS


def write(folder: Path, kind: str, **changes: dict[str, Any]) -> Path:
    """Write a folder of a kind, with fields of its files changed and no real weights."""
    for part, content in KINDS[kind].items():
        name = {"index": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}.get(part)
        values = {"_class_name": kind, **content} if part == "index" else content
        path = folder / (name or f"{part}/config.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**values, **changes.get(part, {})}))
        if name is None:
            stem = "model" if part.startswith("text") else "diffusion_pytorch_model"
            (folder / part / f"{stem}.safetensors").write_bytes(part.encode())
    for tokenizer in ("tokenizer", "tokenizer_2") if kind == SDXL else ():
        (folder / tokenizer).mkdir()
        for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (folder / tokenizer / file).write_text("{}")
    return folder


def test_stable_diffusion_xl(tmp_path: Path) -> None:
    """Two tokenizers and text encoders; how empty prompts and the VAE are treated is part of the folder."""
    info = describe(write(tmp_path, SDXL))
    assert (info.takes, info.guidance_scale, info.default_height, info.size_factor) == ("prompt", 5.0, 1024, 8)
    assert (info.zeros_for_empty_prompt, info.upcasts_vae, info.fixed_size) == (True, True, False)
    assert {"tokenizer_2/vocab.json", "text_encoder_2/model.safetensors"} <= set(info.files)
    before = digest(tmp_path)
    (tmp_path / "tokenizer_2/special_tokens_map.json").write_text("{}")
    assert digest(tmp_path) != before


def test_latents_are_not_clipped_unless_the_folder_says_so(tmp_path: Path) -> None:
    """Euler's configuration does not say, and DDIMScheduler would clip; Stable Diffusion's forcing is not for it."""
    schedule = describe(write(tmp_path, SDXL)).schedule
    assert (schedule.clip_sample, schedule.steps_offset) == (False, 0)
    (tmp_path / "scheduler/scheduler_config.json").write_text('{"clip_sample": true, "steps_offset": 1}')
    schedule = describe(tmp_path).schedule
    assert (schedule.clip_sample, schedule.steps_offset) == (True, 1)


def test_dit(tmp_path: Path) -> None:
    """Classes come from the transformer, their names from model_index.json; the variance's channels are no fault."""
    info = describe(write(tmp_path, DIT))
    assert (info.takes, info.guidance_scale, info.latent_channels, info.fixed_size) == ("class_label", 4.0, 4, True)
    assert info.labels is not None
    assert (info.labels.count, info.labels.index("Tinca tinca", "dit"), info.labels.caption(2)) == (1000, 0, "class 2")
    assert info.size_fault("height", 512) == "must be 256"
    assert info.size_fault("width", 256) is None


def test_unconditional_pixels(tmp_path: Path) -> None:
    """No VAE and no tokenizer; the scheduler is as it was saved, clipping included."""
    info = describe(write(tmp_path, DDPM))
    assert (info.takes, info.latent_channels, info.vae_scale_factor, info.size_factor) == ("nothing", 3, 1, 4)
    assert (info.default_height, info.schedule.clip_sample, info.schedule.steps_offset) == (256, True, 0)
    assert list(info.files) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    assert (info.size_fault("height", 128), info.size_fault("height", 130)) == (None, "must be a multiple of 4")


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (SDXL, {"index": {"text_encoder": [None, None]}}, "the class of text_encoder in .* must be CLIPTextModel, got"),
        (
            SDXL,
            {"unet": {"addition_embed_type": None}},
            "addition_embed_type must be text_time in a Stable.*, got None",
        ),
        (SDXL, {"unet": {"time_cond_proj_dim": 256}}, "time_cond_proj_dim must be None in a Stable.*, got 256"),
        (DIT, {"transformer": {"out_channels": 12}}, "out_channels of the transformer must .*, got 4, 12 and 4 in"),
        (DIT, {"transformer": {"num_embeds_ada_norm": None}}, "num_embeds_ada_norm must be a number of classes, got N"),
        (DIT, {"index": {"id2label": {"1000": "none"}}}, "id2label must give classes from 0 to 999 a name each, got"),
        (DDPM, {"unet": {"out_channels": 6}}, "must both be 1 .grey. or 3 .RGB., got 3 and 6 .*learn the variance"),
        (DDPM, {"unet": {"num_class_embeds": 10}}, "num_class_embeds must be None in a DDPMPipeline, got 10"),
        (DDPM, {"unet": {"block_out_channels": None}}, "block_out_channels must be a list of channel counts, got None"),
    ],
)
def test_what_a_kind_cannot_be_is_refused_by_name(
    tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    """Before anything is loaded: its pictures would be wrong, or none."""
    with pytest.raises(CheckpointError, match=message) as caught:
        describe(write(tmp_path, kind, **changes))
    assert "\n" not in str(caught.value)
