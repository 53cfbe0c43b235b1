"""Images per second of the sampling service over mindone's pipeline where MindSpore launches kernels by threads.

That is what mindone's users get. On few cores it is several times slower than launching them in the thread that calls,
which is what our process sets, and what mindone is given in ``benchmarks.engine``.
"""

from __future__ import annotations

from benchmarks.engine import MINDONE, Side, compare
from benchmarks.options import read_options


def main() -> None:
    """Print both speeds and their ratio."""
    what = f"{MINDONE}, kernels launched by threads"
    compare(read_options(__doc__), Side(what, "mindone_pipeline", told={"launch": "default"}))


if __name__ == "__main__":
    main()
