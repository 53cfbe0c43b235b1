"""How well a picture is made again from its own noise, by the number of steps: Table 2 of the DDIM paper.

Pictures that the checkpoint never saw are encoded, taken up to x_T and down again, without guidance, each with its
caption (https://arxiv.org/abs/2010.02502, section 5.4). The error is the mean square of each dimension: of latents,
which is DDIM's own, and of pixels in [0, 1], in which the VAE's is contained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import at_most, report
from benchmarks.options import Options, read_options
from ddim_core.contracts.sample import SampleSpec, Size
from ddim_core.contracts.start import Picture
from ddim_core.schedule import RoundTrip
from tools.shapes import IMAGE_SIZE, caption, draw, scenes

STEPS = (10, 20, 50, 100, 200, 500, 1000)
PICTURES = 16

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the pictures."""

    latents: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    """x_T."""
    images: Images


class Bench:
    """The networks of a checkpoint and an engine, without the service: latents are to be seen."""

    def __init__(self, options: Options, pictures: Images, prompts: list[str]) -> None:
        from ddim_core.sampling import device

        device.start(options.device, options.device_index, cpu_threads=options.threads)
        with device.quiet_import():
            from ddim_core.sampling.models.load import load_model
            from ddim_core.sampling.runner import DeviceRunner

        self._model = load_model(options.info, options.settings.dtype_on_device)
        self._runner = DeviceRunner(self._model)
        self._slots = options.slots
        self.encoded = np.stack([self._model.encode(pixels) for pixels in pictures])
        size = Size(IMAGE_SIZE, IMAGE_SIZE)
        self._specs = [
            SampleSpec(prompt, "", 0, 0, 1, 1.0, 0.0, 0.0, *size, options.info.schedule, start=Picture(prompt, pixels))
            for prompt, pixels in zip(prompts, pictures, strict=True)
        ]

    def there_and_back(self, steps: int) -> Made:
        """Take all pictures up and down again in so many steps each way."""
        from ddim_core.sampling.engine import Engine
        from ddim_core.sampling.runner import Job

        engine: Engine[Any, Any] = Engine(self._runner, 2 * self._slots)
        specs = [replace(spec, num_inference_steps=steps, path=RoundTrip()) for spec in self._specs]
        jobs = [
            Job(spec, *conditions, self._runner.begin_noise(spec))
            for spec, conditions in zip(specs, self._model.conditions(specs), strict=True)
        ]
        samples = [job.sample(Size(IMAGE_SIZE, IMAGE_SIZE)) for job in jobs]
        for sample in samples:
            engine.submit(sample)
        results: dict[Any, Any] = {}
        while engine.waiting or engine.running:
            results |= {ended.sample: ended.result for ended in engine.step()}
        x0 = [results[sample] for sample in samples]
        noise = [job.kept.read() for job in jobs]
        return Made(
            np.stack([x.asnumpy() for x in x0]), np.stack([x for x in noise if x is not None]), self.decoded(x0)
        )

    def vae_alone(self) -> Images:
        """Return the pictures encoded and decoded, and nothing else."""
        from mindspore import Tensor

        return self.decoded([Tensor(latents) for latents in self.encoded])

    def decoded(self, latents: list[Any]) -> Images:
        """Return the pictures of latents [C, h, w]."""
        batch = self._slots
        parts = [latents[first : first + batch] for first in range(0, len(latents), batch)]
        return np.stack([image.pixels for part in parts for image in self._model.decode(part, batch).read()])


def main() -> None:
    """Print both errors of every step count, that of the VAE alone, and what x_T looks like."""
    options = read_options(__doc__)
    chosen = scenes(held_out=True)
    chosen = chosen[:: len(chosen) // options.scaled(PICTURES)][: options.scaled(PICTURES)]
    pictures = np.stack([draw(scene) for scene in chosen])
    bench = Bench(options, pictures, [caption(scene) for scene in chosen])
    floor = error_of_pixels(pictures, bench.vae_alone())
    errors = [measure(bench, pictures, steps) for steps in STEPS]
    report("pixel error of the VAE alone, x 10^-4", 1e4 * floor, because="encoded and decoded, no DDIM in between")
    rising = sum(later >= earlier for earlier, later in pairwise(errors))
    report(
        "step counts at which more steps did not lower the latent error",
        rising,
        at_most(0),
        because=f"{len(pictures)} held-out pictures, {', '.join(map(str, STEPS))} steps",
    )


def measure(bench: Bench, pictures: Images, steps: int) -> float:
    """Report the errors of a step count; return that of the latents."""
    made = bench.there_and_back(steps)
    error = float(np.mean((made.latents.astype(np.float64) - bench.encoded) ** 2))
    noise = f"x_T has mean {made.noise.mean():+.3f} and deviation {made.noise.std():.3f}"
    pixels = f"{1e4 * error_of_pixels(pictures, made.images):.2f} of pixels"
    report(f"latent error of {steps} steps, x 10^-4", 1e4 * error, because=f"{pixels}; {noise}")
    return error


def error_of_pixels(pictures: Images, others: Images) -> float:
    """Return the mean square of what each pixel in [0, 1] differs by."""
    return float(np.mean(((pictures.astype(np.float64) - others) / 255) ** 2))


if __name__ == "__main__":
    main()
