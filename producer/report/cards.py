"""One image as a report shows it: its caption, what it was made with, and its picture or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ddim_core.contracts.record import SUCCESS, Record, caption_of
from producer.report.facets import Pairs
from producer.report.labels import labels_of
from producer.report.pictures import Picture
from producer.report.wording import cut, duration, short

CAPTION_LIMIT_CHARS = 2000
"""A prompt may have five times as many; all of it stands in the run's parts."""
NEGATIVE_LIMIT_CHARS = 500

CUSTOM_ID = "custom_id"
"""What a request is called, under the name that people gave it by."""
SUMMARY = ("Steps", "Guidance", "Seed")
"""What a card shows without being opened."""

LABELS_SHOWN = 3
"""Of its metadata, the same."""

Status = Literal["made", "failed", "missing"]


@dataclass(frozen=True, slots=True)
class Card:
    """One image of a run, or one that could not be made."""

    key: str
    caption: str
    status: Status
    """``missing`` is an image that was made and cannot be shown."""
    fault: str
    """Why there is no picture; empty where there is one."""
    own: Pairs
    """What this image shares with few others."""
    shared: Pairs
    """What many images of a run share: sampling parameters first."""
    picture: Picture | None
    labels: Pairs = ()
    """Its request's metadata."""

    def facts(self) -> dict[str, str]:
        """Return all that is known, by name."""
        return dict(self.own + self.shared)


def card_of(record: Record, parameters: Pairs, pictures: Mapping[str, Picture | str]) -> Card:
    """Return the card of a row, whose picture is among ``pictures`` if the image was made."""
    made = record.status == SUCCESS
    found = pictures[record.key] if made else f"{record.error_code}: {record.error_message}"
    status: Status = "failed" if not made else "missing" if isinstance(found, str) else "made"
    return Card(
        key=record.key,
        caption=_caption(record),
        status=status,
        fault=found if isinstance(found, str) else "",
        own=(
            ("Seed", str(record.seed)),
            (CUSTOM_ID, record.custom_id),
            ("Time", duration(record.seconds) if made else ""),
            ("File", record.path or ""),
            ("Tokens", "" if record.prompt_tokens is None else str(record.prompt_tokens)),
            ("Whole prompt", "" if record.prompt_used is None else cut(record.prompt, CAPTION_LIMIT_CHARS)),
        ),
        shared=(
            *parameters,
            ("Negative prompt", cut(_negative(record), NEGATIVE_LIMIT_CHARS)),
            ("Worker", record.worker),
            ("Attempts", str(record.attempts) if record.attempts > 1 else ""),
        ),
        picture=None if isinstance(found, str) else found,
        labels=labels_of(record),
    )


def _negative(record: Record) -> str:
    return record.negative_prompt if record.negative_prompt_used is None else record.negative_prompt_used


def _caption(record: Record) -> str:
    """Return what the model saw of the prompt, and what else than a plain image of it this is."""
    caption = cut(caption_of(record), CAPTION_LIMIT_CHARS)
    if record.kind == "interpolate" and record.fraction is not None:
        return f"{caption} ({short(round(record.fraction, 3))} of the way from seed {record.seed} to {record.to_seed})"
    if record.kind == "trace":
        return f"{caption} (x_0 as predicted at step {record.steps_taken} of {record.num_inference_steps})"
    if record.kind == "invert":
        error = "" if record.reconstruction_error is None else f", error {record.reconstruction_error:.2g}"
        return f"{caption} (inverted and made again{error})"
    return caption
