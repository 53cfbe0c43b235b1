"""What the operator of a fleet allows a request and a run to ask for, below what every program allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import Size
from ddim_core.errors import InputError

LIMITS_VARIABLE = "DDIM_FLEET_LIMITS"


class Limits(BaseModel):
    """Upper bounds; None leaves the program's own, which no operator can raise."""

    # Not "forbid": the report of a later version's worker may have more, and stays readable.
    model_config = ConfigDict(frozen=True, extra="ignore")

    max_side_px: int | None = Field(default=None, ge=1)
    """Of height and width."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Height times width."""
    max_num_inference_steps: int | None = Field(default=None, ge=1)
    max_prompt_chars: int | None = Field(default=None, ge=1)
    """Of prompt and negative prompt, each."""
    max_request_bytes: int | None = Field(default=None, ge=1)
    """Of a request as a line of JSON, with its metadata and overrides."""
    max_images_per_request: int | None = Field(default=None, ge=1)
    max_images_per_run: int | None = Field(default=None, ge=1)
    max_requests_per_run: int | None = Field(default=None, ge=1)

    def given(self) -> dict[str, int]:
        """Return the bounds that are set, by name."""
        return self.model_dump(exclude_none=True)

    def faults(self, request: Request) -> Iterator[tuple[str | None, str]]:
        """Yield field and rule of each bound that a request with nothing left to guess breaks."""
        if not self.given():
            return
        steps = request.num_inference_steps
        if _above(steps, self.max_num_inference_steps):
            yield "num_inference_steps", _rule(self.max_num_inference_steps, steps)
        if _above(request.image_count, self.max_images_per_request):
            field = "num_images_per_prompt" if request.special is None else request.kind
            yield field, _rule(self.max_images_per_request, request.image_count, " images")
        yield from self._size_faults(request)
        for name in ("prompt", "negative_prompt"):
            length = len(getattr(request, name))
            if _above(length, self.max_prompt_chars):
                yield name, _rule(self.max_prompt_chars, length, " characters")
        if self.max_request_bytes is not None:
            size_bytes = len(request.model_dump_json(exclude_defaults=True).encode())
            if size_bytes > self.max_request_bytes:
                yield None, f"the request {_rule(self.max_request_bytes, size_bytes, ' bytes of JSON')}"

    def run_faults(self, requests: int, images: int) -> Iterator[str]:
        """Yield each bound that a run of so many requests and images breaks, with the value."""
        if _above(requests, self.max_requests_per_run):
            yield f"the requests of a run {_rule(self.max_requests_per_run, requests)}"
        if _above(images, self.max_images_per_run):
            yield f"the images of a run {_rule(self.max_images_per_run, images)}"

    def allows_size(self, size: Size) -> bool:
        """Return whether images may have that size."""
        return not _above(max(size), self.max_side_px) and not _above(size.height * size.width, self.max_pixels)

    def _size_faults(self, request: Request) -> Iterator[tuple[str | None, str]]:
        assert request.height is not None and request.width is not None
        size = Size(request.height, request.width)
        for name, side in zip(("height", "width"), size, strict=True):
            if _above(side, self.max_side_px):
                yield name, _rule(self.max_side_px, side, " px")
        if _above(size.height * size.width, self.max_pixels):
            yield "height", f"times width {_rule(self.max_pixels, size.height * size.width, ' pixels')} ({size})"


NO_LIMITS = Limits()
"""Those of a fleet whose operator has set none."""


def read_limits(environment: Mapping[str, str]) -> Limits:
    """Return the bounds in ``DDIM_FLEET_LIMITS``, such as ``max_num_inference_steps=100,max_side_px=1024``.

    Raises:
        InputError: It names no bound, or its value is no positive whole number.
    """
    found: dict[str, int] = {}
    for setting in filter(None, map(str.strip, environment.get(LIMITS_VARIABLE, "").split(","))):
        name, _, value = (part.strip() for part in setting.partition("="))
        if name not in Limits.model_fields or name in found:
            known = ", ".join(Limits.model_fields)
            raise InputError(f"{LIMITS_VARIABLE} must name each of {known} once at most, got {setting!r:.80}")
        if not (value.isascii() and value.isdecimal() and int(value)):
            raise InputError(f"{LIMITS_VARIABLE} must give {name} a whole number from 1, got {value!r:.80}")
        found[name] = int(value)
    return Limits(**found)


def _above(value: int, limit: int | None) -> bool:
    return limit is not None and value > limit


def _rule(limit: int | None, value: int, unit: str = "") -> str:
    return f"must be at most {limit}{unit} on this fleet, got {value}"
