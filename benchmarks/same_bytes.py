"""One request alone and in random mixes of other requests: its PNG file has to be the same, byte for byte."""

from __future__ import annotations

import random

from benchmarks.figures import at_least, report
from benchmarks.options import read_options
from benchmarks.work import alike, make, mixed
from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.sampling.service import SamplingService
from workers.chunks.encode import encode_image

MIXES = 50
PNG = ImageEncoding()
STEPS = (3, 5, 8, 13)
"""Of the companions; few, since it is the mixing that matters."""


def main() -> None:
    """Print in what share of the mixes the bytes were those of the request alone."""
    options = read_options(__doc__)
    mixes = options.scaled(MIXES)
    with SamplingService(options.settings) as service:
        [request] = alike(service.info, 1, steps=9, first=1000)
        alone = encode_image(make(service, [request])[0].pixels, PNG)
        same = 0
        for mix in range(mixes):
            draw = random.Random(mix)
            companions = mixed(service.info, draw.randint(0, 2 * options.slots), seed=mix, steps=STEPS)
            place = draw.randint(0, len(companions))
            images = make(service, [*companions[:place], request, *companions[place:]])
            same += encode_image(images[place].pixels, PNG) == alone
    report(
        f"share of {mixes} random mixes in which a request's PNG is the same as alone",
        same / mixes,
        at_least(1),
        because=f"0 to {2 * options.slots} companions of other steps, guidance and eta, any place in line",
    )


if __name__ == "__main__":
    main()
