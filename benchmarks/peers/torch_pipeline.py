"""PyTorch's side: diffusers' StableDiffusionPipeline with its DDIMScheduler, in inference mode, as its users run it."""

from __future__ import annotations

import sys

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from benchmarks.peers.turns import take_turns, told


def main() -> None:
    """Load the checkpoint, then make a batch for each line."""
    options = told()
    if options["device"] != "CPU":
        sys.exit("PyTorch's side runs on the CPU alone")
    torch.set_num_threads(options["threads"])
    pipe = StableDiffusionPipeline.from_pretrained(options["model"], torch_dtype=torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    take_turns(lambda prompts: pipe(prompts, **options["call"]))


if __name__ == "__main__":
    main()
