"""Measure from pixels how often the images of a run show what their captions say.

``python -m tools.check_run --prompts > held-out.jsonl`` writes a request for every held-out caption; after
``ddim-fleet run held-out.jsonl --out RUN``, ``python -m tools.check_run RUN`` prints one line of JSON. The weights so
are measured by the program that ships them; ``check_captions`` does the same with PyTorch.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from tools.check_captions import score
from tools.run_images import run_images
from tools.shapes import caption, scenes


def main() -> None:
    """Write the prompts, or print the score of the run that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("run_url", nargs="?", help="a run of these prompts")
    choice.add_argument("--prompts", action="store_true", help="write the requests instead, a line each")
    options = parser.parse_args()
    scene_of = {caption(scene): scene for scene in scenes(held_out=True)}
    if options.prompts:
        for prompt in scene_of:
            print(json.dumps({"custom_id": prompt.replace(" ", "-"), "prompt": prompt}))
        return
    images = [(np.asarray(image), scene_of[record.prompt]) for record, image in run_images(options.run_url)]
    shares = score([pixels for pixels, _ in images], [scene for _, scene in images])
    print(json.dumps({"count": len(images), **{name: round(share, 3) for name, share in shares.items()}}))


if __name__ == "__main__":
    main()
