"""Makes a checkpoint folder of a single file: ``python -m workers.convert`` with an order on standard input.

The producer starts it, and it ends when that is done. It needs no Redis and no device but the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from ddim_core.broker_url import secrets_of
from ddim_core.contracts.conversion import COMPLAINT, ConversionOrder
from ddim_core.errors import FleetError, HostError
from ddim_core.sampling import device
from workers.logs import set_up_logging


def converted(order: ConversionOrder) -> None:
    """Write the checkpoint.

    Raises:
        CheckpointError: The file does not hold one of that kind.
        HostError: MindSpore is not installed, or cannot use the CPU.
    """
    missing = [name for name in ("mindspore", "mindone") if importlib.util.find_spec(name) is None]
    if missing:
        raise HostError(f"{' and '.join(missing)} must be installed to convert: pip install 'ddim-fleet[worker]'")
    device.start("CPU")
    with device.quiet_import():
        from ddim_core.sampling.single_file import convert
    convert(Path(order.file), Path(order.like), Path(order.folder))


def main() -> int:
    """Convert what standard input names; return the process's exit code, that of the error if there was one."""
    try:
        order = ConversionOrder.model_validate_json(sys.stdin.buffer.read())
        set_up_logging("WARNING", "convert", secrets_of(os.environ))
        converted(order)
        return 0
    except FleetError as exc:
        print(f"{COMPLAINT}{exc}", file=sys.stderr)  # noqa: T201 - the command's own output
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
