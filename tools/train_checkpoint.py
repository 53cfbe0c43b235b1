"""Train the small checkpoint from nothing to the folder that diffusers and mindone load.

``python -m tools.train_checkpoint --work WORK --out FOLDER`` runs four stages, each of which stops when its budget of
seconds is used up and goes on where it was when the command is given again:

    vae     pictures to latents and back
    decoder latents with a denoiser's errors to crisp pictures, the encoder left as it is
    unet    denoiser and text encoder together, on latents computed once
    export  the averaged weights as float16
"""

from __future__ import annotations

import argparse
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional

from tools import checkpoint_models as models
from tools.shapes import training_set
from tools.training_progress import WORKERS, Progress, batches_of

VAE_PICTURES, UNET_PICTURES = 20_000, 30_000
VAE_BATCH, UNET_BATCH = 16, 48
# The VAE sees quarters of pictures for this share of its time, then whole ones, borders and all.
CROP_SHARE = 0.75
# Both in standard deviations of a latent channel; the decoder's is the largest it meets, not the usual one.
LATENT_NOISE, DECODER_NOISE = 0.12, 0.15


def to_tensor(pictures: Any) -> Tensor:
    """Return 8-bit pictures ``[N, H, W, 3]`` as ``[N, 3, H, W]`` in [-1, 1]."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def random_crops(x: Tensor, copies: int = 2) -> Tensor:
    """Return ``[copies * N, 3, 32, 32]`` cut out of ``[N, 3, 64, 64]``: most hold an edge, at a quarter of the cost."""
    side = x.shape[-1] // 2
    corners = torch.randint(0, side + 1, (copies, 2)).tolist()
    return torch.cat([x[..., row : row + side, column : column + side] for row, column in corners])


def latent_noise(mean: Tensor) -> Tensor:
    """Return noise in proportion to each channel's spread, as the errors of a denoiser will be.

    The encoder then has to keep a star and a circle further apart than such an error, and the decoder learns to draw
    the nearest true shape. A KL term alone left noise of a thirtieth, which no small denoiser can match.
    """
    return LATENT_NOISE * mean.detach().std((0, 2, 3), keepdim=True) * torch.randn_like(mean)


def vae_loss(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """Return the loss of a picture that went through noisy latents, and a little KL that keeps the latents small."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample() + latent_noise(posterior.mean)).sample.float()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return picture_loss(y, x) + 1e-3 * kl


def picture_loss(y: Tensor, x: Tensor) -> Tensor:
    """Return L1 + MSE / 2; pixels near an edge, which alone tell a star from a circle, count half in every picture."""
    contrast = functional.max_pool2d(x, 5, 1, 2) + functional.max_pool2d(-x, 5, 1, 2)
    edges = contrast.amax(1, keepdim=True)
    # Small shapes have few such pixels, and would else be left for last: their stars came out round.
    weight = 1 + edges / edges.mean((1, 2, 3), keepdim=True).clamp(min=0.02)
    distance = (y - x).abs()
    return (weight * (distance + distance.square() / 2)).mean()


def train_vae(work: Path, budget_s: float) -> AutoencoderKL:
    """Return the trained autoencoder, its latents standardised."""
    vae = models.build_vae()
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    progress = Progress(work / "vae.pt", vae, optimiser, budget_s)
    if progress.spent_s < budget_s:
        pictures, _ = training_set(VAE_PICTURES, seed=1)
        batches = batches_of(len(pictures), VAE_BATCH, seed=progress.steps)

        def loss(rows: Tensor) -> Tensor:
            x = to_tensor(pictures[rows.numpy()])
            return vae_loss(vae, random_crops(x) if progress.spent_s < CROP_SHARE * budget_s else x)

        progress.run(batches, loss)
    pictures, _ = training_set(2_000, seed=3)
    standardise_latents(progress.average, encode(progress.average, pictures))
    return progress.average


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, means: Tensor) -> None:
    """Move mean and scale of each latent channel into the two 1x1 convolutions around the latents.

    The denoiser then starts from noise of just the right mean and variance, which one ``scaling_factor`` for all
    channels cannot give it.
    """
    mean, std = means.mean((0, 2, 3)), means.std((0, 2, 3))
    to_latent, from_latent = vae.quant_conv, vae.post_quant_conv
    from_latent.bias += from_latent.weight[:, :, 0, 0] @ mean
    from_latent.weight *= std.view(1, -1, 1, 1)
    channels = len(mean)
    to_latent.weight[:channels] /= std.view(-1, 1, 1, 1)
    to_latent.bias[:channels] = (to_latent.bias[:channels] - mean) / std
    to_latent.bias[channels:] -= 2 * std.log()


def encode(vae: AutoencoderKL, pictures: Any) -> Tensor:
    """Return the mean latents ``[N, 4, 8, 8]`` of 8-bit pictures."""

    @torch.no_grad()
    def means(part: Any) -> Tensor:
        return torch.as_tensor(vae.encode(to_tensor(part)).latent_dist.mean)

    with ThreadPoolExecutor(WORKERS) as pool:
        return torch.cat(list(pool.map(means, (pictures[i : i + 125] for i in range(0, len(pictures), 125)))))


class Denoiser(nn.Module):
    """UNet and text encoder as one module: they are trained, averaged and saved together."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = models.build_tokenizer()
        self.text_encoder = models.build_text_encoder(self.tokenizer)
        self.unet = models.build_unet()
        # The fused attention of PyTorch takes a third of a training step on the CPU; the plain one a tenth.
        self.unet.set_attn_processor(AttnProcessor())
        self.text_encoder.set_attn_implementation("eager")

    def tokens(self, captions: list[str]) -> Tensor:
        """Return token ids ``[N, MAX_TOKENS]``, padded the way the pipeline pads them."""
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return torch.as_tensor(ids)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Return the predicted v for noisy latents ``x: [N, 4, 8, 8]``."""
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.text_encoder(tokens).last_hidden_state
            return torch.as_tensor(self.unet(x, t, hidden).sample).float()


def draw_timesteps(count: int, num_train_timesteps: int) -> Tensor:
    """Return stratified timesteps, more of them where the noise is high and the caption alone decides."""
    u = (torch.arange(count) + torch.rand(count)) / count
    t = ((1 - u**1.5) * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)
    t[: count // 16] = num_train_timesteps - 1  # sampling starts there, and a twentieth of its steps is spent there
    return t


def unet_loss(denoiser: Denoiser, alpha_bar: Tensor, z: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean squared error of v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0."""
    t = draw_timesteps(len(z), len(alpha_bar))
    signal, sigma = alpha_bar[t].sqrt().view(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
    eps = torch.randn_like(z)
    v = denoiser(signal * z + sigma * eps, t, tokens)
    return functional.mse_loss(v, signal * eps - sigma * z)


def train_decoder(work: Path, vae: AutoencoderKL, budget_s: float) -> None:
    """Train the half of ``vae`` after the latents alone, in place: it costs half as much and moves no latent."""
    decoder = nn.Sequential(vae.post_quant_conv, vae.decoder).requires_grad_(True)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    progress = Progress(work / "decoder.pt", decoder, optimiser, budget_s)
    if progress.spent_s < budget_s:
        pictures, _ = training_set(UNET_PICTURES, seed=2)
        latents, _ = cached_latents(work, vae)

        def loss(rows: Tensor) -> Tensor:
            z = latents[rows]
            noise = DECODER_NOISE * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)
            with torch.autocast("cpu", torch.bfloat16):
                y = decoder(z + noise)
            return picture_loss(y.float(), to_tensor(pictures[rows.numpy()]))

        progress.run(batches_of(len(latents), VAE_BATCH, seed=progress.steps), loss)
    vae.post_quant_conv, vae.decoder = progress.average


def train_unet(work: Path, vae: AutoencoderKL, budget_s: float) -> Denoiser:
    """Return the trained denoiser; one caption in ten is empty, for classifier-free guidance."""
    denoiser = Denoiser()
    groups = [
        {"params": list(denoiser.unet.parameters()), "lr": 1e-3},
        {"params": list(denoiser.text_encoder.parameters()), "lr": 2e-3},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    progress = Progress(work / "unet.pt", denoiser, optimiser, budget_s)
    if progress.spent_s < budget_s:
        latents, captions = cached_latents(work, vae)
        tokens = denoiser.tokens(captions)
        alpha_bar = models.build_scheduler().alphas_cumprod
        batches = batches_of(len(latents), UNET_BATCH, seed=progress.steps)
        empty = denoiser.tokens([""])

        def loss(rows: Tensor) -> Tensor:
            unsaid = torch.rand(len(rows), 1) < 0.1
            return unet_loss(denoiser, alpha_bar, latents[rows], torch.where(unsaid, empty, tokens[rows]))

        progress.run(batches, loss)
    return progress.average


def cached_latents(work: Path, vae: AutoencoderKL) -> tuple[Tensor, list[str]]:
    """Return latents and captions of the training set, computed once and kept beside the weights."""
    path = work / "latents.pt"
    if not path.exists():
        pictures, captions = training_set(UNET_PICTURES, seed=2)
        torch.save((encode(vae, pictures), captions), path)
    latents, captions = torch.load(path, weights_only=True)
    return latents, captions


def export(out: Path, vae: AutoencoderKL, denoiser: Denoiser) -> None:
    """Write the folder beside its place and swap it in, so that nobody ever loads half a checkpoint."""
    new, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    models.save_pipeline(new, denoiser.text_encoder, vae, denoiser.unet)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the stages that have not used up their budgets, then export."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the state between runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--vae-s", type=float, default=1650.0, help="seconds of training for the VAE")
    parser.add_argument("--decoder-s", type=float, default=1950.0, help="seconds of training for the decoder alone")
    parser.add_argument("--unet-s", type=float, default=3150.0, help="seconds of training for the UNet")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    vae = train_vae(options.work, options.vae_s)
    train_decoder(options.work, vae, options.decoder_s)
    denoiser = train_unet(options.work, vae, options.unet_s)
    export(options.out, vae, denoiser)


if __name__ == "__main__":
    main()
