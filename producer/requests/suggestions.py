"""What a name may have been meant for: another spelling, what other programs call it, its beginning, what is near."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

_SHORTEST_PREFIX = 3

# Web interfaces, diffusers, the OpenAI API, k-diffusion and tables of captions call our fields so.
_SYNONYMS: dict[tuple[str, ...], str] = {
    ("prompt",): "text caption captions description positive positive_prompt prompts input sentence txt instruction",
    (
        "negative_prompt",
    ): "negative neg neg_prompt negativeprompt uc unconditional_prompt ucond negative_text undesired",
    ("class_label",): "class class_id class_labels category label_id class_name label y",
    ("num_images_per_prompt",): "n num_images num_samples samples images n_samples batch_size batch count n_iter "
    "batch_count number_of_images num_outputs repeats",
    ("seed",): "noise_seed random_seed manual_seed rng generator subseed seeds",
    ("num_inference_steps",): "steps step num_steps ddim_steps sampling_steps n_steps inference_steps iterations",
    ("guidance_scale",): "cfg cfg_scale cfgscale guidance scale cfg_weight classifier_free_guidance unconditional_"
    "guidance_scale",
    ("guidance_rescale",): "rescale cfg_rescale rescale_cfg rescale_phi phi guidance_rescale_phi",
    ("eta",): "ddim_eta stochasticity eta_ddim",
    ("width", "height"): "size resolution dimensions image_size dims pixels shape",
    ("height",): "h image_height rows",
    ("width",): "w image_width",
    ("scheduler",): "sampler sampler_name sampling_method scheduler_kwargs scheduler_config schedule",
    ("custom_id",): "id key name uid uuid request_id image_id filename file_name index identifier",
    ("metadata",): "meta tags extra extras info labels attributes",
    ("interpolate",): "interpolation slerp morph",
    ("trace",): "intermediates progress preview",
    ("invert",): "inversion image init_image input_image img",
    ("sweep",): "grid matrix sweeps vary",
    ("lists",): "list choices wildcards variables templates",
    ("timestep_spacing",): "spacing ddim_discretize discretization",
    ("rescale_betas_zero_snr",): "zero_snr zero_terminal_snr ztsnr rescale_zero_terminal_snr",
    ("prediction_type",): "parameterization prediction objective v_prediction",
    ("thresholding",): "dynamic_thresholding",
    ("dynamic_thresholding_ratio",): "threshold_percentile",
    ("clip_sample",): "clip clip_denoised",
    ("num_train_timesteps",): "timesteps num_timesteps train_timesteps",
    ("seeds",): "seed",
    ("frames",): "num_frames count n num_images",
}
_BY_SYNONYM: dict[str, list[tuple[str, ...]]] = {}
for _meant, _others in _SYNONYMS.items():
    for _other in _others.split():
        _BY_SYNONYM.setdefault(_other, []).append(_meant)


def suggested(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return those of ``known`` that ``name`` may have been meant for; the surest kind of likeness decides."""
    plain = plain_name(name)
    same = tuple(each for each in known if plain_name(each) == plain)
    if same:
        return same
    for meant in _BY_SYNONYM.get(plain, ()):
        if all(each in known for each in meant):
            return meant
    if len(plain) >= _SHORTEST_PREFIX:
        begun = tuple(each for each in known if each.startswith(plain) or plain.startswith(f"{each}_"))
        if 0 < len(begun) <= 2:
            return begun
    return tuple(get_close_matches(plain, known, n=1))


def is_synonym(name: str) -> bool:
    """Return whether other programs call a field so."""
    return plain_name(name) in _BY_SYNONYM


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return the question that ends a message about an unknown name, or nothing where none is like it."""
    meant = suggested(name, known)
    # width and height are meant together; of two that begin alike, one is.
    between = " and " if meant in _SYNONYMS else " or "
    return f"; did you mean {between.join(meant)}?" if meant else ""


def plain_name(name: str) -> str:
    """Return a name in small letters with underscores: ``numInferenceSteps`` and ``CFG scale`` as ours are written."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s-]+", "_", parted).lower()
