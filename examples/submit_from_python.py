"""Submit a run from Python, wait for it, list what was made, and have the images as files.

Needs a Redis and workers on it: ``ddim-fleet worker`` on each host, with the same ``DDIM_FLEET_BROKER``.
"""

from __future__ import annotations

import os
import sys

from producer import Client

COLOURS = ("red", "green", "blue")
SHAPES = ("circle", "square", "star")


def main(out: str) -> None:
    """Make nine images and print where each is."""
    client = Client(os.environ.get("DDIM_FLEET_BROKER"))
    requests = [
        {"prompt": f"a large {colour} {shape} on a white background", "custom_id": f"{colour}-{shape}"}
        for colour in COLOURS
        for shape in SHAPES
    ]
    defaults = {"num_inference_steps": 20, "guidance_scale": 2.0, "guidance_rescale": 0.7}
    run = client.submit(requests, out=out, container="imagefolder", defaults=defaults)
    status = run.wait()
    print(f"{status.images_made} made, {status.images_failed} failed")  # noqa: T201
    for record in run.records():
        print(record.custom_id, record.path or record.error_message)  # noqa: T201
    print(f"as files: {run.download('pictures').folder}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "out/from-python")
