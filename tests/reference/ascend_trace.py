"""Trace a checkpoint's graphs as Ascend would get them, on a machine without one, and count their operators.

``python -m tests.reference.ascend_trace CHECKPOINT...`` prints JSON: how often each operator is in each graph of each
checkpoint. A process of its own: it makes mindone believe in an NPU. The twins of ``cpu_kernels`` are left out,
weights are float16, attention is FlashAttention. The compiler works as usual up to the point where it looks for kernels
and finds none on the CPU; by then it has written down the graph that it would have given to the device.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, mint

from ddim_core.checkpoints import CheckpointInfo, describe
from ddim_core.sampling import cpu_kernels, device

LANES = 4
TOKENS = 77
BANK_ROWS = 10
DTYPE = ms.float16
_NODE = re.compile(r"^\s*%\w+\(\S+\) = (?:PrimFunc_)?(\w+)\(", re.MULTILINE)
_BOOKKEEPING = {"Load", "Depend", "UpdateState", "MakeTuple", "TupleGetItem", "Return", "MakeList", "ListGetItem"}
"""Nodes of the graph that are no kernel."""

Counts = dict[str, int]


def believe_in_an_npu() -> None:
    """Have mindone's modules, which ask for the target when they are imported and later, hear of Ascend."""
    ms.set_device("CPU")
    ms.runtime.launch_blocking()
    told = ms.get_context

    def get_context(name: str) -> Any:
        return "Ascend" if name == "device_target" else told(name)

    with device.quiet_import():
        import mindone.diffusers
        import mindone.transformers  # noqa: F401
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("mindone", "mindspore") and getattr(module, "get_context", None) is told:
            module.get_context = get_context  # type: ignore[union-attr]


def traced(call: Callable[[], Any], graphs: Path) -> Counts:
    """Return the operators of the graph that ``call`` compiles; it must fail for want of a kernel."""
    before = set(graphs.rglob("*validate*.ir"))
    try:
        call()
    except RuntimeError as error:
        if "Kernel select failed" not in str(error):
            raise
    (written,) = set(graphs.rglob("*validate*.ir")) - before
    counts = Counter(_NODE.findall(written.read_text()))
    return {name: count for name, count in sorted(counts.items()) if name not in _BOOKKEEPING}


def zeros(shape: tuple[int, ...], dtype: Any = ms.float32) -> Tensor:
    """Return zeros that are made on the host."""
    return Tensor(np.zeros(shape), dtype)


def conditions(info: CheckpointInfo) -> tuple[Tensor, ...]:
    """Return a batch of conditions such as the checkpoint's denoiser takes."""
    if info.pipeline in ("DDPMPipeline", "DDIMPipeline"):
        return ()
    if info.pipeline == "DiTPipeline":
        return (zeros((LANES,), ms.int32),)
    config = json.loads((info.folder / "unet" / "config.json").read_text())
    text = zeros((LANES, TOKENS, config["cross_attention_dim"]), DTYPE)
    if info.pipeline == "StableDiffusionPipeline":
        return (text,)
    sizes = 6 * config["addition_time_embed_dim"]
    pooled = zeros((LANES, config["projection_class_embeddings_input_dim"] - sizes), DTYPE)
    return text, pooled, zeros((LANES, 6))


def graphs_of(info: CheckpointInfo) -> dict[str, Callable[[], Any]]:
    """Return what compiles each of a checkpoint's graphs."""
    from ddim_core.sampling.bank import COLUMNS
    from ddim_core.sampling.models.load import load_model
    from ddim_core.sampling.step import DenoisingStep

    twins = cpu_kernels._twins()
    with pytest.MonkeyPatch.context() as loading:  # DiT makes its positions eagerly, when it is built
        for name in [name for name, value in vars(mint).items() if callable(value) and value in twins]:
            loading.setattr(mint, name, twins[getattr(mint, name)])
        model: Any = load_model(info, "float16")
    height, width = info.default_height, info.default_width
    latents = (LANES, *model.latent_shape(height, width))
    state = zeros((LANES, int(np.prod(latents[1:])) + 5))
    rest = (zeros((BANK_ROWS, len(COLUMNS))), zeros(latents), *conditions(info))

    def step(thresholding: bool) -> Callable[[], Any]:
        return lambda: DenoisingStep(model.denoiser, thresholding=thresholding)(state, *rest)

    graphs = {"step": step(False), "decoder": lambda: model._decoder(zeros(latents))}
    if info.pipeline in ("DDPMPipeline", "DDIMPipeline"):  # the step's own part is the same for all
        graphs["step with thresholding"] = step(True)
    if info.pipeline == "StableDiffusionPipeline":
        graphs["encoder"] = lambda: model._encoder(zeros((1, height, width, 3), ms.uint8))
    encoders = {"text encoder": "_text_encoder", "first text encoder": "_first", "second text encoder": "_second"}
    for name, attribute in encoders.items():
        if hasattr(model, attribute):
            graphs[name] = jitted(getattr(model, attribute)._network)
    return graphs


def jitted(network: Any) -> Callable[[], Any]:
    """Return what compiles a text encoder, which runs uncompiled on a device: its operators are the same."""

    @ms.jit(jit_level="O0")
    def encode(tokens: Tensor) -> Any:
        return network(tokens, output_hidden_states=False)[0]

    return lambda: encode(zeros((LANES, network.config.max_position_embeddings), ms.int32))


def main() -> None:
    """Print the counts for the checkpoints that the command line names."""
    believe_in_an_npu()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ms.set_context(save_graphs=1, save_graphs_path=folder)
        for checkpoint in map(Path, sys.argv[1:]):
            graphs = graphs_of(describe(checkpoint))
            found[checkpoint.name] = {name: traced(call, Path(folder)) for name, call in graphs.items()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
