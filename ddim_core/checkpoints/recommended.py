"""The settings that a checkpoint recommends for requests, in a small file beside ``model_index.json``.

It is no part of the digest: it changes no image, since every row says what its image was made with.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from ddim_core.checkpoints.files import read_json
from ddim_core.checkpoints.folder import CheckpointInfo
from ddim_core.contracts.request import Request
from ddim_core.errors import CheckpointError, ScheduleError

RECOMMENDED = "recommended_settings.json"
FIELDS = ("num_inference_steps", "guidance_scale", "guidance_rescale", "eta", "height", "width", "scheduler")
"""What may stand in it: fields of requests, under their names and with their rules."""


def read_recommended(info: CheckpointInfo) -> dict[str, Any]:
    """Return the fields of requests that a checkpoint recommends, by name; none where it has no such file.

    Raises:
        CheckpointError: The file recommends what no request with this checkpoint can have.
    """
    if not (info.folder / RECOMMENDED).is_file():
        return {}
    settings = read_json(info.folder, RECOMMENDED)
    for name in settings:
        if name not in FIELDS:
            raise _refused(info, f"a field must be one of {', '.join(FIELDS)}, got {name!r:.80}")
    try:
        request = Request.model_validate({"prompt": "any", **settings}, strict=True)
        request.schedule(info.schedule)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        rule = first["msg"].replace("Input should be", "must be")
        raise _refused(info, f"{'.'.join(map(str, first['loc']))} {rule}, got {first['input']!r:.80}") from error
    except ScheduleError as error:
        raise _refused(info, str(error)) from error
    for name in ("height", "width"):
        if name in settings and (fault := info.size_fault(name, settings[name])) is not None:
            raise _refused(info, f"{name} {fault}, got {settings[name]}")
    return settings


def _refused(info: CheckpointInfo, words: str) -> CheckpointError:
    return CheckpointError(
        f"{words} in {info.folder / RECOMMENDED}; mend it, or leave it alone with --settings diffusers"
    )
