"""``README.md`` of a finished run: a dataset card that Hugging Face and people read."""

from __future__ import annotations

import re
import string

from ddim_core.contracts.plan import Container, RunPlan
from workers.finishing.dataset_facts import DatasetFacts

CARD = "README.md"
PROMPT_CHARS = 200
"""Of a prompt that the card shows; the rows have all of it."""

_DATA_FILES: dict[Container, str] = {
    "webdataset": "shards/*.tar",
    "imagefolder": "images/**",
    "files": "parts/*.parquet",  # loaders would take the images' folders for their classes
}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")
_MARKDOWN = re.compile(f"([{re.escape(string.punctuation)}])")
"""Any of these may be escaped, and each of them can begin or end markup somewhere."""


def dataset_card(plan: RunPlan, facts: DatasetFacts) -> bytes:
    """Return the card; it depends on the plan and the rows alone, so that every worker writes the same.

    Its licence is ``unknown``: that of the images follows from the checkpoint and the prompts, of which we know none.
    """
    return "\n".join([*_front_matter(plan, facts), "", *_text(plan, facts), ""]).encode(errors="replace")


def size_category(images: int) -> str:
    """Return the name that Hugging Face has for a dataset of so many images."""
    return _SIZES[min(max(len(str(images)) - 3, 0), len(_SIZES) - 1)]


def yaml_text(text: str) -> str:
    """Return any text as a YAML scalar on one line, in which all but plain ASCII is escaped."""
    return '"' + re.sub(r"[^ !#-\[\]-~]", lambda match: f"\\U{ord(match[0]):08X}", text) + '"'


def markdown_text(text: str) -> str:
    """Return any text as Markdown that shows it on one line, as it is: no markup, links, tables or HTML in it work."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _front_matter(plan: RunPlan, facts: DatasetFacts) -> list[str]:
    lines = [
        "---",
        f"pretty_name: {yaml_text(_title(plan))}",
        "license: unknown",
        "task_categories:",
        f"- {'text-to-image' if any(facts.prompts) else 'unconditional-image-generation'}",
        "size_categories:",
        f"- {yaml_text(size_category(facts.images))}",
        "tags:",
        "- synthetic",
    ]
    if facts.images:  # without one there are no files to name
        path = yaml_text(_DATA_FILES[plan.container])
        lines += ["configs:", "- config_name: default", "  data_files:", "  - split: train", f"    path: {path}"]
    return [*lines, "---"]


def _title(plan: RunPlan) -> str:
    return f"Images by {plan.model.name}"


def _text(plan: RunPlan, facts: DatasetFacts) -> list[str]:
    return [
        f"# {markdown_text(_title(plan))}",
        "",
        f"Images made by a diffusion model with DDIM: {facts.images}; {facts.failed} could not be made. "
        f"Run {plan.run_id}.",
        "",
        *_table(plan, facts),
        "",
        "## Loading",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        'images = load_dataset("path/of/this/folder", split="train")',
        "```",
        "",
        f"gives {_columns(plan)}. `parts/*.parquet` has a row for each image, failed ones too, with",
        "all of its parameters, seed and sha256; `manifest.json` has size and sha256 of every file.",
        "",
        *_examples(facts),
        "## Licence",
        "",
        "Not known to the program that wrote this card. It follows from the model's licence and what it was asked for.",
    ]


def _examples(facts: DatasetFacts) -> list[str]:
    if not any(facts.prompts):
        return []  # nothing but the noise decided what they show
    return ["## Prompts", "", *(f"- {markdown_text(_cut(prompt))}" for prompt in facts.prompts), ""]


def _columns(plan: RunPlan) -> str:
    columns: dict[Container, str] = {
        "webdataset": f"`{plan.image_format}`, `txt` (the prompt, as far as the model saw it), `json`",
        "imagefolder": "`image`, `text` and the parameters",
        "files": "the rows, whose `path` names the image",
    }
    return columns[plan.container]


def _table(plan: RunPlan, facts: DatasetFacts) -> list[str]:
    rows = {
        "model": plan.model.name,
        "model digest": plan.model.digest,
        "requests": str(plan.request_count),
        "images": str(facts.images),
        **({"images whose prompt was cut": str(facts.cut)} if facts.cut else {}),
        "image format": plan.image_format + ("" if plan.quality is None else f", quality {plan.quality}"),
        "seed of the run": str(plan.seed),
        **{name: str(values) for name, values in facts.numbers.items()},
        **{name: ", ".join(sorted(words)) for name, words in facts.words.items()},
        **{f"version of {name}": version for name, version in sorted(plan.versions.items())},
    }
    return [
        "| | |",
        "|---|---|",
        *(f"| {markdown_text(name)} | {markdown_text(text)} |" for name, text in rows.items()),
    ]


def _cut(text: str) -> str:
    return text if len(text) <= PROMPT_CHARS else f"{text[:PROMPT_CHARS]}..."
