"""The report in a real browser: it shows its images, keeps hostile prompts inert, and can be searched and read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.plan import Container
from ddim_core.contracts.request import Request
from producer.report import facets, write_report
from tests.integration.chromium import Page
from tests.integration.finished_run import finished_run
from tests.integration.report_runs import write_rows
from tests.unit.storage.runs import SmallRun, write_run

HOSTILE = (
    '<script>document.title="owned"</script>',
    "</style><style>body{display:none}</style><img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=alert(1)> ' --> ]]> </title></script><h1>owned</h1>",
    "{{ 7 * 7 }} ${7 * 7} &lt;b&gt; \u202e reversed \u2066 \u2028 \u2029",
    '<template id="settings">__proto__</template> ' + "long " * 300,
)
RUN = SmallRun(
    prompts=(*HOSTILE, "a red square", "a blue circle", "a red circle", "breaks <b>badly</b>"),
    failing=frozenset({"breaks <b>badly</b>"}),
)

# Pairs of a text's colour and that of the ground it stands on, for all elements with text of their own.
CONTRASTS = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => c.slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } };
  const result = {};
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (!e.checkVisibility() || e.tagName === "SCRIPT") continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const name = e.tagName + "." + e.className;
    result[name] = Math.min(result[name] ?? 99, (a + 0.05) / (b + 0.05));
  }
  return result;
})()"""


# Every card as a tree of names, attributes and texts.
SHAPES = """(() => {
  const shape = (e) => [e.tagName, [...e.attributes].map((a) => a.name + "=" + a.value).sort(),
    e.children.length ? [...e.children].map(shape) : e.textContent];
  return [...grid.children].map(shape);
})()"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run whose prompts try to break out."""
    folder = tmp_path_factory.mktemp("run")
    write_report(write_run(str(folder), RUN).url)
    return folder / "report.html"


@pytest.fixture
def opened(page: Page, report: Path) -> Iterator[Page]:
    """The tab with the report open; nothing may have gone wrong in it by the end, and nothing else been loaded."""
    page.open(report)
    yield page
    assert page.complaints() == []
    assert set(page.requests()) <= {
        path.as_uri() for path in report.parent.rglob("*") if path.suffix in (".html", ".js")
    }


def asked(page: Page, **fields: str) -> list[str]:
    """Set filters by the ids or names of their fields; return the captions that are shown then."""
    for name, value in fields.items():
        chosen = f"""document.querySelector('[id="{name}"], [data-equals="{name}"], [data-label="{name}"]')"""
        page.value(
            f"{chosen}.value = {json.dumps(value)}, {chosen}.dispatchEvent(new Event('input', {{bubbles: true}}))"
        )
    page.value("settled")
    return captions(page)


def captions(page: Page) -> list[str]:
    """Return the captions that are shown."""
    found: list[str] = page.value(
        "[...document.querySelectorAll('.card')].filter((card) => card.checkVisibility())"
        ".map((card) => card.querySelector('.caption').textContent)"
    )
    return found


def test_every_image_is_shown_and_small_ones_as_squares(opened: Page) -> None:
    """Eight images of 64 pixels, each shown at three times its size, without smoothing."""
    opened.value("Promise.all([...document.images].map((image) => image.decode()))")
    images = opened.value(
        "[...document.images].map((i) => [i.naturalWidth, i.width, getComputedStyle(i).imageRendering])"
    )
    assert images == [[64, 192, "pixelated"]] * 8


@pytest.mark.parametrize("drawn_by", ["template", "script"])
def test_hostile_prompts_are_text_and_nothing_else(opened: Page, drawn_by: str) -> None:
    """Each stands in its caption letter by letter; no element of theirs exists, and no script of theirs ran."""
    if drawn_by == "script":
        opened.value("grid.replaceChildren(); act(() => showPage(0))")
        opened.value("settled")
    assert captions(opened) == list(RUN.prompts)
    assert opened.value("document.querySelectorAll('.caption *, .frame svg').length") == 0
    assert opened.value("document.title") == "Run small-run-0001 - ddim-fleet"
    assert opened.value("[document.scripts.length, document.querySelectorAll('style, h1').length]") == [2, 2]
    assert opened.value("getComputedStyle(document.body).display") == "block"


@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_cards_of_the_script_are_those_of_the_page(page: Page, tmp_path: Path, container: Container) -> None:
    """One page of a run looks like another, to the last attribute."""
    write_report(write_run(str(tmp_path), replace(RUN, container=container)).url)
    page.open(tmp_path / "report.html")
    written = page.value(SHAPES)
    page.value("grid.replaceChildren(); act(() => showPage(0))")
    page.value("settled")
    assert page.value(SHAPES) == written
    assert len(written) == len(RUN.prompts)
    assert page.value("grid.querySelectorAll('a[href^=\"images/\"]').length") == (
        8 if container == "imagefolder" else 0
    )
    assert page.complaints() == []


def test_an_opened_card_shows_all_of_a_long_caption(opened: Page) -> None:
    """Closed, it shows three lines, so that cards stay of one height."""
    height = "[...document.querySelectorAll('.caption')][4].offsetHeight"
    closed = opened.value(height)
    opened.value("grid.children[4].querySelector('summary').click()")
    assert closed < 80
    assert opened.value(height) > 5 * closed


def test_markup_that_got_into_the_page_would_run_nothing(page: Page, report: Path) -> None:
    """The page's policy is the second wall behind the escaping: no script, handler, style or address of it works."""
    markup = (
        '<script>window.owned = 1</script><img src=x onerror="window.owned = 2"><script src="report/evil.js"></script>'
        '<p id="styled" style="display: none">shown</p><base href="https://example.com/"><iframe src="x"></iframe>'
    )
    (report.parent / "report" / "evil.js").write_text("window.owned = 3;")
    (report.parent / "tampered.html").write_text(report.read_text().replace("<main>", f"<main>{markup}"))
    page.open(report.parent / "tampered.html")
    assert page.value("window.owned === undefined")
    assert page.value("styled.checkVisibility()")
    assert len([event for event in page.complaints() if "Content Security Policy" in str(event)]) >= 5
    assert asked(page, search="blue") == ["a blue circle"]  # and its own scripts still do
    assert [url for url in page.requests() if not url.startswith(report.parent.as_uri())] == []


def test_the_pages_own_script_cannot_make_a_script_of_text(opened: Page) -> None:
    """Should it ever be changed to: a caption would never be run."""
    intruder = "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)"
    refused = opened.value(f"(() => {{ try {{ {intruder} }} catch (error) {{ return error.name }} }})()")
    assert refused == "TypeError"
    assert opened.value("window.owned === undefined")
    assert any("TrustedScript" in str(event) for event in opened.complaints())
    opened.events[:] = [event for event in opened.events if "TrustedScript" not in str(event)]


@pytest.mark.parametrize(
    ("typed", "status", "wanted"),
    [
        ("", "", list(RUN.prompts)),
        ("RED", "", ["a red square", "a red circle"]),
        ("circle red", "", ["a red circle"]),
        ("r6", "", ["a blue circle"]),
        ("<script>", "", [HOSTILE[0]]),
        ("__proto__", "", [HOSTILE[4]]),
        ("nan", "failed", ["breaks <b>badly</b>"]),
        ("red", "failed", []),
    ],
)
def test_cards_can_be_searched_and_filtered(opened: Page, typed: str, status: str, wanted: list[str]) -> None:
    """By words of the caption in any order and case, by id, by reason, and by whether there is an image."""
    assert asked(opened, search=typed, status=status) == wanted
    assert (opened.value("count.textContent") == "Nothing matches.") == (wanted == [])
    opened.value("filters.reset(), new Promise((resolve) => setTimeout(resolve, 20)).then(() => settled)")
    assert captions(opened) == list(RUN.prompts)


def test_a_reason_leads_to_the_images_that_failed_for_it(opened: Page) -> None:
    """One press shows them, whatever was asked for before."""
    assert asked(opened, search="red") == ["a red square", "a red circle"]
    press = "document.querySelector('[data-search]').click(), new Promise((resolve) => setTimeout(resolve, 20))"
    opened.value(f"{press}.then(() => settled)")
    assert captions(opened) == ["breaks <b>badly</b>"]


def test_cards_are_found_by_parameters_and_seed(page: Page, tmp_path: Path) -> None:
    """The parameters that differ within the run can be chosen, with how many images each has; a seed must be equal."""
    folder = finished_run(
        str(tmp_path),
        [
            Request(prompt="ten", num_inference_steps=10, seed=7, guidance_scale=2.5),
            Request(prompt="two", num_inference_steps=2, seed=77, guidance_scale=2.5, num_images_per_prompt=2),
            Request(
                prompt="lin", num_inference_steps=10, guidance_scale=2.5, scheduler={"timestep_spacing": "linspace"}
            ),
        ],
    )
    write_report(folder.url)
    page.open(tmp_path / "report.html")
    chosen = page.value("[...document.querySelectorAll('[data-equals]')].map((e) => e.dataset.equals)")
    assert chosen == ["Steps", "Step spacing"]
    options = page.value("[...document.querySelectorAll('[data-equals=Steps] option')].map((e) => e.textContent)")
    assert options == ["All", "2 (2)", "10 (2)"]
    assert asked(page, Steps="10") == ["ten", "lin"]
    assert asked(page, **{"Step spacing": "linspace"}) == ["lin"]
    assert asked(page, **{"Step spacing": ""}, Steps="", seed="7") == ["ten"]
    assert page.complaints() == []


def test_a_parameter_of_many_values_is_filtered_by_a_range(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of all of them would be of no use."""
    monkeypatch.setattr(facets, "MAX_CHOICES", 2)
    scales = (1.5, 3.0, 7.5, 12.0)
    write_report(finished_run(str(tmp_path), [Request(prompt=f"{n:g}", guidance_scale=n) for n in scales]).url)
    page.open(tmp_path / "report.html")
    field = "document.querySelector('[data-{0}=Guidance]')"
    least, most = field.format("least"), field.format("most")
    assert page.value(f"[{least}.placeholder, {most}.placeholder]") == ["1.5", "12"]
    page.value(f"{least}.value = '3', {most}.value = '10'")
    assert asked(page, search="") == ["3", "7.5"]
    assert page.complaints() == []


LABELLED = (
    Request(prompt="a", custom_id="star", metadata={"split": "train", "score": "1", "__proto__": "x"}),
    Request(prompt="b", custom_id="star-2", metadata={"split": "test", "score": "2.5", "note": "two words"}),
    Request(prompt="c", custom_id="Star", metadata={"split": "train", "score": "30", "note": "<b>words</b>"}),
    Request(prompt="d", custom_id="plain"),
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with metadata, whose names and values are people's own."""
    folder = tmp_path_factory.mktemp("labelled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facets, "MAX_CHOICES", 2)  # so that scores are a range, and notes a choice
        write_report(finished_run(str(folder / "run"), LABELLED).url)
    return folder / "run" / "report.html"


def test_cards_are_found_by_metadata_and_name(page: Page, labelled: Path) -> None:
    """By a field's value or lack, by a range of numbers, by words of both, and by the whole custom_id."""
    page.open(labelled)
    fields = page.value("[...document.querySelectorAll('[data-label]')].map((e) => e.dataset.label)")
    assert sorted(fields) == ["__proto__", "note", "split"]
    options = page.value("[...document.querySelectorAll('[data-label=split] option')].map((e) => e.textContent)")
    assert options == ["All", "test (1)", "train (2)", "None (1)"]
    assert asked(page, split="=train") == ["a", "c"]
    assert asked(page, split="=train", note="-") == ["a"]
    assert asked(page, split="-", note="") == ["d"]
    assert asked(page, split="", search="split=TRAIN") == ["a", "c"]
    assert asked(page, search="note=two words") == ["b"]
    assert asked(page, search="star") == ["a", "b", "c"]
    assert asked(page, search="", **{"custom-id": "star"}) == ["a"]
    page.value("document.querySelector('[data-label-least=score]').value = '2'")
    assert asked(page, **{"custom-id": ""}) == ["b", "c"]
    page.value("document.querySelector('[data-label-most=score]').value = '29'")
    assert asked(page, search="") == ["b"]
    assert page.complaints() == []


def test_cards_show_name_and_metadata(page: Page, labelled: Path) -> None:
    """Those that the script makes as those that were written, and all of them as text."""
    page.open(labelled)
    shown = (
        "[...document.querySelectorAll('.card')].map((card) => [card.querySelector('.id').textContent, "
        "...[...card.querySelectorAll('.labels div')].map((e) => e.innerText.replace(/\\s+/, ' '))])"
    )
    written, elements = page.value(shown), page.value(SHAPES)
    assert written == [
        ["star", "__proto__ x", "score 1", "split train"],
        ["star-2", "note two words", "score 2.5", "split test"],
        ["Star", "note <b>words</b>", "score 30", "split train"],
        ["plain"],
    ]
    page.value("grid.replaceChildren(); act(() => showPage(0))")
    page.value("settled")
    assert (page.value(shown), page.value(SHAPES)) == (written, elements)
    assert page.complaints() == []


@pytest.mark.parametrize("width_px", [320, 1600])
def test_metadata_fit_every_screen(page: Page, tmp_path: Path, width_px: int) -> None:
    """Long names and values of many fields, without a space in them."""
    metadata = {f"{n}{'name' * 15}": "value" * 60 for n in range(15)}
    requests = [Request(prompt=word, custom_id=word * 60, metadata=metadata) for word in "ab"]
    write_report(finished_run(str(tmp_path), [*requests, Request(prompt="c")]).url)
    page.call("Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=1, mobile=False)
    page.open(tmp_path / "report.html")
    page.value("grid.children[0].querySelector('summary').click()")
    assert page.value("document.documentElement.scrollWidth") <= width_px
    assert page.value("document.querySelectorAll('[data-label]').length") == 12
    assert page.complaints() == []


def test_a_hundred_thousand_rows_are_paged_and_searched(page: Page, tmp_path: Path) -> None:
    """From a folder, without a server. The limit is generous: docs/operations.md says what was measured."""
    folder = write_run(str(tmp_path), SmallRun(prompts=[f"image {n}" for n in range(6)]))
    write_rows(folder, 100_000)
    write_report(folder.url)
    page.open(tmp_path / "report.html")
    assert page.value("count.textContent").startswith("1 to 60 of 100\u202f000")
    page.value("page.value = 1667, page.dispatchEvent(new Event('change')), settled")
    assert captions(page) == [f"caption {n} of many" for n in range(99_960, 100_000)]
    assert page.value("[...document.querySelectorAll('[data-turn]')].map((e) => e.disabled)") == [False, True] * 2
    assert asked(page, search="99321 many") == ["caption 99321 of many"]
    started = page.value("performance.now()")
    assert len(asked(page, search="many")) == 60
    assert page.value("performance.now()") - started < 5_000
    assert "of 100\u202f000 that match" in page.value("count.textContent")
    assert page.value("document.querySelectorAll('option').length") < 100
    assert "subject=value" in page.value("document.querySelector('.filters .note').textContent")
    assert asked(page, search="subject=s99321") == ["caption 99321 of many"]
    started = page.value("performance.now()")
    assert len(asked(page, search="", split="=train")) == 60
    assert page.value("performance.now()") - started < 5_000
    assert "of 75\u202f000 that match" in page.value("count.textContent")
    page.value("document.querySelector('[data-turn=\"1\"]').click(), settled")
    assert page.value("document.getElementById('page').value") == "2"
    assert page.complaints() == []


def test_a_page_without_its_folder_says_what_is_missing(page: Page, tmp_path: Path) -> None:
    """Someone may send the page alone: its first images are there, and a search says why it finds nothing."""
    write_report(write_run(str(tmp_path / "run")).url)
    alone = tmp_path / "report.html"
    alone.write_bytes((tmp_path / "run" / "report.html").read_bytes())
    page.open(alone)
    assert len(captions(page)) == 4
    assert len(asked(page, search="red")) == 4
    assert 'Keep the folder "report" beside this page' in page.value("count.textContent")


def test_without_scripts_the_first_page_is_whole(page: Page, report: Path) -> None:
    """Captions, images, plots and failures; no control that would do nothing."""
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(report)
        shown = page.value(
            "[...document.querySelectorAll('.card, svg, .reason, #filters, .pager')]"
            ".filter((e) => e.checkVisibility()).map((e) => e.className.baseVal ?? e.className)"
        )
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert sorted(set(shown)) == ["", "card", "card failed", "reason"]
    assert len([name for name in shown if name.startswith("card")]) == len(RUN.prompts)


def test_everything_can_be_reached_by_keyboard(opened: Page) -> None:
    """In the order of the page, beginning with the way past its head, and a focused element is marked."""
    opened.call("Emulation.setDeviceMetricsOverride", width=1600, height=900, deviceScaleFactor=1, mobile=False)
    reached = []
    for _ in range(6):
        opened.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(opened.value("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert reached == ["Skip to the images", "search", "status", "custom-id", "seed", "Clear"]
    assert opened.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(opened: Page, scheme: str) -> None:
    """A contrast of 4.5 to 1 at least (WCAG 2.2, AA) in both colour schemes."""
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    contrasts = opened.value(CONTRASTS)
    assert len(contrasts) > 10
    assert {name: value for name, value in contrasts.items() if value < 4.5} == {}


def test_it_makes_sense_to_a_screen_reader(opened: Page) -> None:
    """Images and fields have names, and headings go down one level at a time."""
    named = opened.value("[...document.images].map((i) => i.closest('li').querySelector('.caption').textContent)")
    assert opened.value("[...document.images].map((i) => i.alt)") == named
    assert opened.value("[...document.querySelectorAll('input, select')].every((e) => e.labels[0].textContent.trim())")
    assert opened.value("[...document.querySelectorAll('h1, h2, h3')].map((e) => e.tagName)")[:3] == ["H1", "H2", "H2"]


@pytest.mark.parametrize("width_px", [320, 800, 1600])
def test_it_fits_every_screen(opened: Page, width_px: int) -> None:
    """Nothing makes the page scroll sideways, from a phone to a wide screen."""
    opened.call("Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=1, mobile=False)
    assert opened.value("document.documentElement.scrollWidth") <= width_px


def test_an_unfinished_run_says_so(page: Page, tmp_path: Path) -> None:
    """A report can be written at any time."""
    write_report(write_run(str(tmp_path), SmallRun(committed=1)).url)
    page.open(tmp_path / "report.html")
    assert page.value("document.querySelector('.badge').textContent.trim()") == "Not finished: 1 of 2 chunks done"
    assert page.value("document.images.length") == 2
    assert page.complaints() == []
