"""Where an image goes that is a file of its own, and the name that a request's custom_id gives it."""

from __future__ import annotations

import hashlib
import re

from ddim_core.contracts.plan import RunPlan

FILES_PER_FOLDER = 10_000
"""What Hugging Face takes in one folder; later chunks of a larger run go into numbered folders below ``images``."""

IMAGE_PATH = re.compile(r"images/(?:\d{5,}/)?[a-z0-9_~-]+\.[a-z]+")
"""Any path that ``image_path`` returns, for who reads one from a row."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
"""Ids that are file names as they are, everywhere: without capitals, which some file systems take for small letters."""
_OTHER = re.compile(r"[^a-z0-9_-]+")
_WORDS_KEPT = 60


def image_path(plan: RunPlan, key: str, custom_id: str, image: int) -> str:
    """Return where image number ``image`` of a request goes: below ``images``, whatever the id holds.

    It follows from the plan and the request alone, so that an image made again replaces itself.
    """
    stem = f"{readable_name(custom_id)}_{image}" if plan.container == "files" else key
    chunk = int(key[:-4])
    folder = chunk // max(1, FILES_PER_FOLDER // plan.images_per_chunk)
    return f"images/{f'{folder:05d}/' if folder else ''}{stem}.{plan.image_format}"


def readable_name(custom_id: str) -> str:
    """Return a file name's beginning for an id: no two ids have the same one, and none leads out of a folder.

    An id that is no plain word keeps what is plain of it, followed by its hash after a ``~``, which no plain one has.
    """
    if _PLAIN.fullmatch(custom_id):
        return custom_id
    digest = hashlib.sha256(custom_id.encode(errors="surrogatepass")).hexdigest()
    return f"{_OTHER.sub('-', custom_id.lower()).strip('-_')[:_WORDS_KEPT]}~{digest[:16]}"
