"""Whether MindSpore's Ascend plugin has a kernel for every operator of every graph; no NPU is needed to see that."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddim_core.checkpoints import resolve
from tests.tiny_checkpoints import write_dit, write_sdxl, write_unconditional

pytest.importorskip("mindspore")

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LIBRARIES = ("libmindspore_ascend.so.2", "libmindspore_ops_ascend.so")

WITHOUT_A_CLASS = {
    "StridedSlice": "indexing with numbers and ranges; the vendor's own operator, compiled once a process and shape",
    "Gather": "the text encoder's embeddings: once a prompt, outside of the step",
    "GatherNd": "the pooled output of Stable Diffusion XL's second text encoder: once a prompt, outside of the step",
    "LayerNorm": "the text encoder's: once a prompt, outside of the step",
    "BiasAdd": "the text encoder's: once a prompt, outside of the step",
}
"""Operators that are compiled online by the vendor's compiler, and why that is borne."""
ONLY_IN_TEXT_ENCODERS = {"Gather", "GatherNd", "LayerNorm", "BiasAdd"}


def kernel_classes() -> set[str]:
    """Return the names of the kernel classes in the plugin, from their type names: length, then name, as in C++."""
    spec = importlib.util.find_spec("mindspore")
    assert spec is not None and spec.origin is not None
    plugin = Path(spec.origin).parent / "lib" / "plugin"
    found = set()
    for library in LIBRARIES:
        for match in re.finditer(rb"N9mindspore6kernel(\w+)E\0", (plugin / library).read_bytes()):
            found.add(last_name(match[1].decode()))
    return found


def last_name(mangled: str) -> str:
    """Return the innermost of nested names such as ``9layernorm18LayerNormExtAscend``."""
    name = ""
    while (length := re.match(r"\d+", mangled)) is not None:
        end = length.end() + int(length[0])
        name, mangled = mangled[length.end() : end], mangled[end:]
    return name


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory, cpu: None) -> dict[str, dict[str, dict[str, int]]]:
    """Give how often each operator is in each graph of each kind of checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoints")
    kinds = {"sdxl": write_sdxl, "dit": write_dit, "unconditional": write_unconditional}
    paths = [write(folder / name) for name, write in kinds.items()]
    command = [sys.executable, "-W", "ignore", "-m", "tests.reference.ascend_trace", str(resolve("shapes"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_v": "4"}
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_operator_has_a_kernel_or_a_reason(graphs: dict[str, dict[str, dict[str, int]]]) -> None:
    """A new one without a kernel would be compiled on the first NPU host, or fail there, and nowhere else."""
    classes = {name.lower() for name in kernel_classes()}
    assert {"indexselectascend", "flashattentionscoreascend"} <= classes  # the names are read as they should be
    lacking: dict[str, set[str]] = {}
    for kinds in graphs.values():
        for graph, counts in kinds.items():
            for operator in counts:
                if f"{operator.lower()}ascend" not in classes:
                    lacking.setdefault(operator, set()).add(graph)
    assert set(lacking) <= set(WITHOUT_A_CLASS), lacking
    for operator in ONLY_IN_TEXT_ENCODERS & set(lacking):
        assert all("text encoder" in graph for graph in lacking[operator]), (operator, lacking[operator])


def test_attention_is_flash_attention(graphs: dict[str, dict[str, dict[str, int]]]) -> None:
    """What was traced is what an NPU gets, and not the CPU's graphs under another name."""
    for checkpoint in ("sdxl", "dit"):
        assert graphs[checkpoint]["step"]["FlashAttentionScore"] > 0
        assert "BatchMatMul" not in graphs[checkpoint]["step"]
