"""What all tests share: the packages import from the checkout, and mindone's import noise is not an error."""

from __future__ import annotations

import os

# Set before anything imports NumPy or MindSpore: two busy-waiting thread pools on two cores starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = ["tests.integration.s3_server", "tests.integration.chromium"]
