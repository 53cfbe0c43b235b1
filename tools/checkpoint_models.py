"""The four parts of the small checkpoint: tokenizer, text encoder, VAE and UNet, with ordinary options only."""

from __future__ import annotations

import collections
import itertools
import json
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

from tools.shapes import IMAGE_SIZE, PHRASES, Scene, caption, scenes

LATENT_CHANNELS = 4
VAE_CHANNELS = (16, 32, 64, 64)
LATENT_SIZE = IMAGE_SIZE // 2 ** (len(VAE_CHANNELS) - 1)
UNET_CHANNELS = (64, 96)
HEAD_WIDTH = 32
TEXT_WIDTH = 128
# The longest caption has 14 tokens with both ends; the rest is room for words that fall apart into letters.
MAX_TOKENS = 24


def caption_words() -> list[str]:
    """Return every word that a caption may hold, sorted."""
    texts = [caption(Scene(*parts)) for parts in _each_word_once()]
    texts += ["an gray", *itertools.chain.from_iterable(PHRASES.values())]
    return sorted(set(" ".join(texts).split()))


def _each_word_once() -> set[tuple[str, str, str, str, str]]:
    return {(s.shape, s.colour, s.size, s.position, s.background) for s in scenes(held_out=False)}


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges, most frequent pair first, after which every word is one token."""
    pieces = [(*word[:-1], word[-1] + "</w>") for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in pieces):
        counts = collections.Counter(pair for word in pieces for pair in itertools.pairwise(word))
        # Ties are broken by the alphabet, so that the vocabulary does not depend on the order of a set.
        best = max(sorted(counts), key=counts.__getitem__)
        merges.append(best)
        pieces = [_merge(word, best) for word in pieces]
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)


def build_tokenizer() -> CLIPTokenizer:
    """Return CLIP's tokenizer over bytes, in which each word of a caption is one token and any text can be written."""
    alphabet = list(bytes_to_unicode().values())
    merges = learn_merges(caption_words())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocab_file, merges_file = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab_file.write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        merges_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return CLIPTokenizer(str(vocab_file), str(merges_file), model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder of two layers."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    # CLIP's own 0.02 starves a small encoder that is trained from scratch: its layers first see almost nothing.
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.3)
    torch.nn.init.normal_(model.text_model.embeddings.position_embedding.weight, std=0.1)
    return model


def build_vae() -> AutoencoderKL:
    """Return an untrained autoencoder from 64x64 pixels to 8x8 latents."""
    levels = len(VAE_CHANNELS)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    # A posterior of variance 1 would drown the means at the start, and the decoder would learn to ignore them.
    torch.nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], -4.0)
    return vae


def build_unet() -> UNet2DConditionModel:
    """Return an untrained denoiser that reads the caption at every resolution."""
    levels = len(UNET_CHANNELS)
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        # diffusers reads this option as the number of heads, whatever it is called.
        attention_head_dim=tuple(channels // HEAD_WIDTH for channels in UNET_CHANNELS),
        norm_num_groups=32,
    )


def build_scheduler() -> DDIMScheduler:
    """Return the schedule of training and sampling: the last timestep is pure noise and is visited first."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # has no effect on trailing timesteps; the pipeline warns about any other value
    )


def save_pipeline(folder: Path, text_encoder: CLIPTextModel, vae: AutoencoderKL, unet: UNet2DConditionModel) -> None:
    """Write the folder that ``StableDiffusionPipeline.from_pretrained`` reads, weights as float16."""
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=build_tokenizer(),
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
