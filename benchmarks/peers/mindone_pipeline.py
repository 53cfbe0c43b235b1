"""mindone's side: its StableDiffusionPipeline with its own scheduler, eager, as its examples run it.

On the CPU it needs the kernels that mindone lacks there, which are ours. ``launch`` says how MindSpore launches
kernels: ``default`` is what its users get, ``blocking`` is faster on few cores and what our own process sets.
"""

from __future__ import annotations

import mindspore as ms

from benchmarks.peers.turns import take_turns, told
from ddim_core.sampling import cpu_kernels, device


def main() -> None:
    """Load the checkpoint, then make a batch for each line."""
    options = told()
    if options["launch"] == "blocking":
        device.start(options["device"], options["device_index"], cpu_threads=options["threads"])
    else:
        ms.set_device(options["device"], options["device_index"])
    with device.quiet_import():
        cpu_kernels.install()
        from mindone.diffusers import StableDiffusionPipeline

        dtype = {"mindspore_dtype": ms.float16} if options["device"] == "Ascend" else {}
        pipe = StableDiffusionPipeline.from_pretrained(options["model"], use_safetensors=True, **dtype)
    pipe.set_progress_bar_config(disable=True)
    take_turns(lambda prompts: pipe(prompts, **options["call"]))


if __name__ == "__main__":
    main()
