"""The dataset card and its Croissant: what they say, and that no prompt can say more in them than its words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.record import RECORD_SCHEMA, Record
from tests.unit.workers.samples import items, picture, plan, records
from workers.finishing.croissant import croissant
from workers.finishing.dataset_card import dataset_card, markdown_text, size_category, yaml_text
from workers.finishing.dataset_facts import VALUES_KEPT, DatasetFacts

ODD_TEXTS = (
    'a "quoted" \\ back\\slash: {yaml} #comment',
    "---\n# heading\n---\nlicense: mit",
    "tab\t nul\0 bell\a next\x85line sep\u2028arator \x7f",
    "emoji 🦊 and 图",
    "",
)


def made(**fields: object) -> Record:
    """Return the row of an image that was made."""
    row = records(1).success(items(1)[0], b"png", "shards/00000.tar", picture(items(1)[0].spec))
    return replace(row, **fields)  # type: ignore[arg-type]


def facts_of(*rows: Record) -> DatasetFacts:
    """Return the facts of these rows."""
    facts = DatasetFacts()
    for row in rows:
        facts.add(row)
    return facts


def front_matter(card: bytes) -> dict[str, object]:
    """Return the card's YAML as Hugging Face reads it: what stands between its first two lines of dashes."""
    found: dict[str, object] = yaml.safe_load(card.decode().split("\n---\n")[0].removeprefix("---\n"))
    return found


def named(name: str, container: str = "webdataset") -> RunPlan:
    """Return a plan with a model of that name."""
    run = plan(1, container=container)
    return run.model_copy(update={"model": run.model.model_copy(update={"name": name})})


def test_the_card_says_what_there_is_and_how_to_load_it() -> None:
    """Counts, model and parameters in the text; task, size and files in the front matter."""
    failed = records(1).failure(items(1)[0], ValueError("no"))
    card = dataset_card(named("sd15"), facts_of(made(), made(eta=0.5, guidance_scale=2.0, prompt="a moon"), failed))
    assert front_matter(card) == {
        "pretty_name": "Images by sd15",
        "license": "unknown",
        "task_categories": ["text-to-image"],
        "size_categories": ["n<1K"],
        "tags": ["synthetic"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shards/*.tar"}]}],
    }
    text = card.decode()
    assert "\nImages made by a diffusion model with DDIM: 2; 1 could not be made. Run run-0001.\n" in text
    assert "\n| eta | 0\\, 0\\.5 |\n" in text and "\n| guidance\\_scale | 2\\, 7 |\n" in text
    assert "\n- a star\n- a moon\n" in text


def test_a_run_without_a_condition_is_no_text_to_image() -> None:
    """Its captions are empty: there is nothing to list."""
    card = dataset_card(plan(1), facts_of(made(prompt="")))
    assert front_matter(card)["task_categories"] == ["unconditional-image-generation"]
    assert "## Prompts" not in card.decode()


def test_a_run_without_images_names_no_files() -> None:
    """A loader would look for them."""
    assert "configs" not in front_matter(dataset_card(plan(1), DatasetFacts()))


def test_many_values_are_given_as_a_range() -> None:
    """And memory does not grow with them."""
    facts = facts_of(*(made(eta=number / 1000, prompt=f"p{number}") for number in range(100)))
    assert str(facts.numbers["eta"]) == "0 to 0.099"
    assert len(facts.numbers["eta"].few) == VALUES_KEPT + 1
    assert len(facts.prompts) == 5


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_comes_back_from_yaml(text: str) -> None:
    """A model may be named by a path with anything in it."""
    line = yaml_text(text)
    assert line.isascii() and "\n" not in line
    assert yaml.safe_load(f"name: {line}\nnext: 1") == {"name": text, "next": 1}


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_models_name_stays_within_its_field(text: str) -> None:
    """It can end neither the front matter nor the table."""
    card = dataset_card(named(text), facts_of(made()))
    assert front_matter(card)["pretty_name"] == f"Images by {text}"
    assert front_matter(card)["license"] == "unknown"
    assert card.decode().splitlines().count("---") == 2


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a [link](http://x) | cell", "a \\[link\\]\\(http\\:\\/\\/x\\) \\| cell"),
        ("<script>&amp;</script>", "\\<script\\>\\&amp\\;\\<\\/script\\>"),
        ("# heading\n- item\n```", "\\# heading \\- item \\`\\`\\`"),
        ("1. *bold* _it_ ~~x~~ $a$ @me", "1\\. \\*bold\\* \\_it\\_ \\~\\~x\\~\\~ \\$a\\$ \\@me"),
        ("plain words, 图", "plain words\\, 图"),
    ],
)
def test_a_prompt_is_shown_and_not_obeyed(text: str, escaped: str) -> None:
    """Prompts come from strangers, and cards are shown as web pages."""
    assert markdown_text(text) == escaped
    assert f"\n- {escaped}\n" in dataset_card(plan(1), facts_of(made(prompt=text))).decode()


def test_a_long_prompt_is_cut() -> None:
    """A card is no place for ten thousand characters."""
    card = dataset_card(plan(1), facts_of(made(prompt="x" * 10_000))).decode()
    assert f"\n- {'x' * 200}\\.\\.\\.\n" in card


@pytest.mark.parametrize(
    ("images", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**12, "n>1B")],
)
def test_sizes_have_the_names_of_hugging_face(images: int, name: str) -> None:
    """Its search filters by them."""
    assert size_category(images) == name


def test_the_same_rows_give_the_same_bytes() -> None:
    """Two workers may finish a run at once."""
    rows = [
        made(scheduler=json.dumps({"timestep_spacing": spacing})) for spacing in ("trailing", "leading", "linspace")
    ]
    cards = {dataset_card(plan(3), facts_of(*order)) for order in (rows, rows[::-1])}
    assert len(cards) == 1
    assert b"| timestep\\_spacing | leading\\, linspace\\, trailing |" in cards.pop()


def test_croissant_names_every_column_and_every_file_with_its_hash() -> None:
    """Images that are files of their own are one set: a million of them would be a file nobody reads."""
    files = [
        FileEntry(path="images/000000000.png", size_bytes=3, sha256="aa"),
        FileEntry(path="parts/00000.parquet", size_bytes=5, sha256="bb"),
        FileEntry(path="images/metadata.parquet", size_bytes=7, sha256="cc"),
    ]
    found = json.loads(croissant(named('a "model"', "imagefolder"), 1, files))
    described = {each["@id"]: each for each in found["distribution"]}
    assert list(described) == ["parts/00000.parquet", "images/metadata.parquet", "parts", "images"]
    assert described["parts/00000.parquet"]["sha256"] == "bb"
    assert described["parts/00000.parquet"]["contentSize"] == "5 B"
    assert described["images"]["includes"] == "images/*.png"
    (rows,) = found["recordSet"]
    assert [each["source"]["extract"]["column"] for each in rows["field"]] == RECORD_SCHEMA.names
    assert found["description"] == 'Images made with DDIM by a "model", d: 1 of them.'


@pytest.mark.parametrize(
    ("container", "paths", "sets"),
    [
        ("webdataset", "shards/*.tar", ["parts", "shards"]),
        ("imagefolder", "images/**", ["parts", "images"]),
        ("files", "parts/*.parquet", ["parts", "images"]),
    ],
)
def test_each_kind_of_run_names_what_loaders_read(container: str, paths: str, sets: list[str]) -> None:
    """With the format's own name for its contents, which is not always its ending."""
    run = plan(1, container=container).model_copy(update={"image_format": "jpg", "quality": 80})
    card = dataset_card(run, facts_of(made(format="jpg", quality=80)))
    assert front_matter(card)["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": paths}]}
    ]
    assert "\n| image format | jpg\\, quality 80 |\n" in card.decode()
    distribution = json.loads(croissant(run, 1, []))["distribution"]
    assert [each["@id"] for each in distribution] == sets
    if container != "webdataset":
        assert (distribution[1]["includes"], distribution[1]["encodingFormat"]) == ("images/*.jpg", "image/jpeg")


def test_of_very_many_files_only_the_sets_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """A description of a hundred megabytes helps nobody; images never count."""
    monkeypatch.setattr("workers.finishing.croissant.LISTED_LIMIT", 2)
    parts = [FileEntry(path=f"parts/{n:05d}.parquet", size_bytes=1, sha256="a") for n in range(3)]
    images = [FileEntry(path=f"images/{n}.png", size_bytes=1, sha256="a") for n in range(9)]
    counts = {
        len(parts[:n]): len(json.loads(croissant(plan(1), 1, [*images, *parts[:n]]))["distribution"]) for n in (2, 3)
    }
    assert counts == {2: 2 + 2, 3: 2}


def test_no_name_ends_the_element_that_a_site_puts_croissant_into() -> None:
    """JSON-LD stands in pages as a script; read as JSON, the name is what it was."""
    name = "</script><script>alert(1)</script>&amp;"
    data = croissant(named(name), 1, [])
    assert not set("<>&") & set(data.decode())
    assert json.loads(data)["description"].startswith(f"Images made with DDIM by {name}, ")


@pytest.mark.parametrize(
    "text", ["www.example.com", "[![x](http://x)](http://y)", "![x][y]\n[y]: http://z", "=HYPERLINK(1)"]
)
def test_names_of_models_and_versions_are_shown_and_not_obeyed(text: str) -> None:
    """They come from whoever made the checkpoint or planned the run."""
    run = named(text).model_copy(update={"versions": {text: text}})
    card = dataset_card(run, facts_of(made(scheduler=json.dumps({text: text})))).decode()
    escaped = markdown_text(text)
    assert f"\n| model | {escaped} |\n" in card and f"\n| version of {escaped.strip()} | {escaped} |\n" in card
    body = card.split("\n---\n", 1)[1]
    assert text not in body
