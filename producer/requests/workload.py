"""What the requests of a run come to, added up while they are checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ddim_core.contracts.changes import WindowedSize
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import MAX_SIZES, BatchShape, Size
from producer.requests.advice import Advice

SHOWN = 3


@dataclass(slots=True)
class Workload:
    """Sums over requests."""

    requests: int = 0
    images: int = 0
    steps: int = 0
    """Steps of denoising, of all images."""
    evaluations: int = 0
    """Images that the denoiser works on, step by step: with guidance two a step."""
    pixel_evaluations: int = 0
    """The same, times the pixels of each: what the time of a device grows with."""
    pixels: int = 0
    """Of all images."""
    request_bytes: int = 0
    """Of the requests as chunk files have them."""
    sizes: Counter[Size] = field(default_factory=Counter)
    """Images by their size, but for those of ``windowed``."""
    windowed: Counter[BatchShape] = field(default_factory=Counter)
    """Images whose prompts fill more than one window of the text encoder."""
    cut_images: int = 0
    """Images whose prompt or negative prompt is cut."""
    thresholding: bool = False
    """Whether a request asks for dynamic thresholding."""
    inverting: bool = False
    """Whether a request asks to invert a picture."""
    first: list[Request] = field(default_factory=list)
    """The first ``SHOWN`` requests, to show what lines became."""
    last: Request | None = None
    advice: Advice = field(default_factory=Advice)
    """What a person should know of the model before it is made."""

    def all_sizes(self) -> Counter[Size]:
        """Return the images by their size, however many windows their prompts fill."""
        windowed: Counter[Size] = Counter()
        for shape, images in self.windowed.items():
            windowed[shape.size] += images
        return self.sizes + windowed

    def frequent_sizes(self) -> tuple[str, ...]:
        """Return the sizes that most images have, at most ``MAX_SIZES``, the most frequent first."""
        return tuple(str(size) for size, _ in self.sizes.most_common(MAX_SIZES))

    def frequent_windowed(self) -> tuple[WindowedSize, ...]:
        """Return the same of those that fill several windows."""
        frequent = (shape for shape, _ in self.windowed.most_common(MAX_SIZES))
        return tuple(WindowedSize(size=str(shape.size), windows=shape.windows) for shape in frequent)

    def add(self, request: Request, size_bytes: int, windows: int = 1) -> None:
        """Add a request with nothing left to guess, so long as JSON, whose prompts fill so many windows."""
        assert request.height is not None and request.width is not None
        images, pixels = request.image_count, request.height * request.width
        steps = images * request.num_inference_steps
        if request.special is not None:
            steps = sum(request.num_steps(image) for image in range(images))
        evaluations = steps * evaluations_per_step(request.guidance_scale)
        if self.requests < SHOWN:
            self.first.append(request)
        self.last = request
        self.requests += 1
        size = Size(request.height, request.width)
        if windows == 1:
            self.sizes[size] += images
        else:
            self.windowed[BatchShape(size, windows)] += images
        self.cut_images += images if request.long_prompts == "cut" else 0
        self.thresholding |= bool(request.scheduler.get("thresholding"))
        self.inverting |= request.invert is not None
        self.images += images
        self.steps += steps
        self.evaluations += evaluations
        self.request_bytes += size_bytes
        self.pixels += images * pixels
        self.pixel_evaluations += evaluations * pixels


def evaluations_per_step(guidance_scale: float) -> int:
    """Return what a step asks of the denoiser: with guidance, a conditional and an unconditional output."""
    return 2 if guidance_scale > 1 else 1
