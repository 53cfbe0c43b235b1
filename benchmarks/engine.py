"""Images per second of the sampling service and of mindone's pipeline: same weights, batch, steps, guidance, process.

mindone's pipeline runs eagerly, as its users run it, with the CPU kernels that it lacks replaced by ours: without them
it does not run on the CPU at all.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.timing import median_seconds
from ddim_core.checkpoints import describe, resolve
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.service import SamplingService
from ddim_core.sampling.settings import SamplingSettings

BATCH = 8
STEPS = 20
GUIDANCE_SCALE = 4.0
PROMPT = "a large red circle on a white background"


def main() -> None:
    """Print both speeds and their ratio."""
    folder = resolve("shapes")
    with SamplingService(SamplingSettings(checkpoint=folder, slots=BATCH)) as service:
        ours, theirs = median_seconds(_with_service(service), _with_mindone())
    print(
        f"  batch {BATCH}, {STEPS} steps, guidance {GUIDANCE_SCALE}: "
        f"ours {BATCH / ours:.2f} images/s, mindone {BATCH / theirs:.2f}: {theirs / ours:.1f} times as fast"
    )


def _with_service(service: SamplingService) -> Callable[[], object]:
    info = describe(resolve("shapes"))
    specs = [
        SampleSpec(
            prompt=PROMPT,
            negative_prompt="",
            seed=seed,
            image_index=0,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE_SCALE,
            guidance_rescale=0.7,
            eta=0.0,
            height=info.default_height,
            width=info.default_width,
            schedule=info.schedule,
        )
        for seed in range(BATCH)
    ]

    def run() -> object:
        return [future.result() for future in [service.submit(spec) for spec in specs]]

    return run


def _with_mindone() -> Callable[[], object]:
    from mindone.diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(resolve("shapes"), use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)

    def run() -> object:
        return pipe([PROMPT] * BATCH, num_inference_steps=STEPS, guidance_scale=GUIDANCE_SCALE, guidance_rescale=0.7)

    return run


if __name__ == "__main__":
    main()
