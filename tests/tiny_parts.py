"""What each of mindone's pipelines that take a DDIM scheduler is made of, and called with, to draw a small picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests import tiny_inputs as inputs
from tests import tiny_networks as networks
from tests import tiny_variants as variants

Factory = Callable[[], Any]


def nothing() -> None:
    """Leave a part out."""


_SD: Mapping[str, Factory] = {
    "unet": networks.unet,
    "vae": networks.vae,
    "text_encoder": networks.text_encoder,
    "tokenizer": networks.tokenizer,
    "feature_extractor": nothing,
    "safety_checker": nothing,
    "requires_safety_checker": lambda: False,
    "controlnet": lambda: networks.controlnet(networks.unet),
}
_SDXL: Mapping[str, Factory] = {
    **_SD,
    "unet": networks.unet_xl,
    "text_encoder_2": networks.text_encoder_2,
    "tokenizer_2": networks.tokenizer,
    "controlnet": lambda: networks.controlnet(networks.unet_xl),
    "add_watermarker": lambda: False,
}

PARTS: Mapping[str, Mapping[str, Factory]] = {
    "sd": _SD,
    "sdxl": _SDXL,
    "AllegroPipeline": {"transformer": variants.allegro, "vae": variants.allegro_vae},
    "AnimateDiffControlNetPipeline": variants.MOTION,
    "AnimateDiffPAGPipeline": variants.MOTION,
    "AnimateDiffPipeline": variants.MOTION,
    "AnimateDiffSDXLPipeline": variants.MOTION_XL,
    "AnimateDiffSparseControlNetPipeline": {**variants.MOTION, "controlnet": variants.sparse_controlnet},
    "AnimateDiffVideoToVideoControlNetPipeline": variants.MOTION,
    "AnimateDiffVideoToVideoPipeline": variants.MOTION,
    "AudioLDM2Pipeline": variants.AUDIO_2,
    "AudioLDMPipeline": variants.AUDIO,
    "BriaPipeline": {"transformer": variants.bria},
    "CogVideoXFunControlPipeline": {"transformer": variants.cogvideo, "vae": variants.cogvideo_vae},
    "DDIMPipeline": {"unet": networks.pixels},
    "DiTPipeline": {"transformer": networks.dit},
    "I2VGenXLPipeline": {**variants.SEEING, "unet": lambda: variants.unet_3d("I2VGenXLUNet")},
    "KandinskyCombinedPipeline": variants.KANDINSKY,
    "KandinskyImg2ImgCombinedPipeline": variants.KANDINSKY,
    "KandinskyImg2ImgPipeline": variants.KANDINSKY,
    "KandinskyInpaintCombinedPipeline": variants.KANDINSKY_INPAINT,
    "KandinskyInpaintPipeline": variants.KANDINSKY_INPAINT,
    "KandinskyPipeline": variants.KANDINSKY,
    "KolorsImg2ImgPipeline": {
        "unet": networks.unet_xl,
        "text_encoder": inputs.Hidden,
        "tokenizer": lambda: inputs.tokens,
    },
    "KolorsPAGPipeline": {"unet": networks.unet_xl},
    "KolorsPipeline": {"unet": networks.unet_xl},
    "LDMSuperResolutionPipeline": variants.SUPER_RESOLUTION,
    "LDMTextToImagePipeline": {
        "vqvae": networks.vae,
        "bert": lambda: networks.text_encoder(max_position_embeddings=77),
    },
    "LattePipeline": {"transformer": variants.latte},
    "MarigoldDepthPipeline": {"unet": lambda: networks.unet(in_channels=8)},
    "MarigoldIntrinsicsPipeline": {"unet": lambda: networks.unet(in_channels=12, out_channels=8)},
    "MarigoldNormalsPipeline": {"unet": lambda: networks.unet(in_channels=8)},
    "MusicLDMPipeline": variants.MUSIC,
    "PIAPipeline": variants.ANIMATED,
    "PaintByExamplePipeline": variants.BY_EXAMPLE,
    "PixArtSigmaPAGPipeline": {"transformer": variants.pixart},
    "PixArtSigmaPipeline": {"transformer": variants.pixart},
    "StableDiffusionAdapterPipeline": {
        "adapter": lambda: variants.adapter("full_adapter"),
        "unet": lambda: networks.unet(**variants.ADAPTED),
    },
    "StableDiffusionControlNetXSPipeline": {"unet": variants.controlnet_xs, "controlnet": nothing},
    "StableDiffusionDepth2ImgPipeline": {"unet": lambda: networks.unet(in_channels=5)},
    "StableDiffusionGLIGENPipeline": {"unet": lambda: networks.unet(attention_type="gated")},
    "StableDiffusionGLIGENTextImagePipeline": variants.GLIGEN,
    "StableDiffusionImageVariationPipeline": variants.SEEING,
    "StableDiffusionInstructPix2PixPipeline": {"unet": lambda: networks.unet(in_channels=8)},
    "StableDiffusionLDM3DPipeline": {"vae": lambda: networks.vae(in_channels=6, out_channels=6)},
    "StableDiffusionUpscalePipeline": {"unet": lambda: networks.unet(in_channels=7, num_class_embeds=1000)},
    "StableDiffusionXLAdapterPipeline": {
        "adapter": lambda: variants.adapter("full_adapter"),
        "unet": lambda: networks.unet_xl(**variants.ADAPTED),
    },
    "StableDiffusionXLControlNetXSPipeline": {"unet": variants.controlnet_xs_xl, "controlnet": nothing},
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": {"controlnet": variants.union},
    "StableDiffusionXLControlNetUnionInpaintPipeline": {"controlnet": variants.union},
    "StableDiffusionXLControlNetUnionPipeline": {"controlnet": variants.union},
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": lambda: networks.unet_xl(in_channels=8)},
    "StableUnCLIPImg2ImgPipeline": variants.UNCLIP,
    "StableUnCLIPPipeline": variants.UNCLIP,
    "TextToVideoSDPipeline": {"unet": lambda: variants.unet_3d("UNet3DConditionModel")},
    "UniDiffuserPipeline": variants.UNIDIFFUSER,
    "VideoToVideoSDPipeline": {"unet": lambda: variants.unet_3d("UNet3DConditionModel")},
}
"""What makes a pipeline's parts: of a family, and of a pipeline itself."""

_MARIGOLD = {"processing_resolution": 0, "match_input_resolution": False}
CALLS: Mapping[str, Mapping[str, Any]] = {
    "AllegroPipeline": {**inputs.T5, "output_type": "latent"},
    "AnimateDiffControlNetPipeline": {"conditioning_frames": inputs.frames},
    "AnimateDiffSparseControlNetPipeline": {"conditioning_frames": lambda: inputs.frames()[:1]},
    "AnimateDiffVideoToVideoControlNetPipeline": {"conditioning_frames": inputs.frames},
    "AudioLDM2Pipeline": inputs.GPT2,
    "AudioLDMPipeline": inputs.CLAP,
    "BriaPipeline": {"prompt": None, "prompt_embeds": inputs.embeds, "negative_prompt_embeds": inputs.other_embeds},
    "CogVideoXFunControlPipeline": {
        "prompt": None,
        "prompt_embeds": inputs.embeds,
        "negative_prompt_embeds": inputs.other_embeds,
        "control_video": inputs.frames,
    },
    "DiTPipeline": {"class_labels": [1, 5]},
    "KandinskyImg2ImgPipeline": inputs.IMAGE_EMBEDS,
    "KandinskyInpaintPipeline": inputs.IMAGE_EMBEDS,
    "KandinskyPipeline": inputs.IMAGE_EMBEDS,
    "KandinskyCombinedPipeline": {"prior_num_inference_steps": 2},
    "KandinskyImg2ImgCombinedPipeline": {"prior_num_inference_steps": 2},
    "KandinskyInpaintCombinedPipeline": {"prior_num_inference_steps": 2},
    "KolorsImg2ImgPipeline": {"max_sequence_length": 8},
    "KolorsPAGPipeline": inputs.CHATGLM,
    "KolorsPipeline": inputs.CHATGLM,
    "LattePipeline": {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": inputs.embeds,
        "negative_prompt_embeds": inputs.other_embeds,
        "video_length": 2,
    },
    "MarigoldDepthPipeline": _MARIGOLD,
    "MarigoldIntrinsicsPipeline": _MARIGOLD,
    "MarigoldNormalsPipeline": _MARIGOLD,
    "MusicLDMPipeline": inputs.CLAP,
    "PixArtSigmaPAGPipeline": inputs.T5,
    "PixArtSigmaPipeline": inputs.T5,
    "StableDiffusionAttendAndExcitePipeline": {
        "token_indices": [2],
        "max_iter_to_alter": 0,
        "attn_res": (8, 8),
        "thresholds": {},
    },
    "StableDiffusionDepth2ImgPipeline": {"depth_map": lambda: inputs.values(1, 16, 16, seed=1)},
    "StableDiffusionGLIGENPipeline": {"gligen_phrases": ["a circle"], "gligen_boxes": [[0.1, 0.5, 0.6, 0.9]]},
    "StableDiffusionGLIGENTextImagePipeline": {
        "gligen_phrases": ["a circle"],
        "gligen_boxes": [[0.1, 0.5, 0.6, 0.9]],
        "gligen_images": lambda: inputs.frames()[:1],
    },
    "StableDiffusionKDiffusionPipeline": {"use_karras_sigmas": True},
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": {"control_mode": [1]},
    "StableDiffusionXLControlNetUnionInpaintPipeline": {"control_mode": [1]},
    "StableDiffusionXLControlNetUnionPipeline": {"control_mode": [1]},
    "StableDiffusionXLKDiffusionPipeline": {"use_karras_sigmas": True},
    "StableUnCLIPPipeline": {"prior_num_inference_steps": 2},
    "TextToVideoZeroPipeline": {"video_length": 2, "t0": 0, "t1": 1},
    "TextToVideoZeroSDXLPipeline": {"video_length": 2, "t0": 0, "t1": 1},
    "UniDiffuserPipeline": {"image": None},
}
"""What a pipeline is called with beside, or in place of, what all are; a function makes its value."""
