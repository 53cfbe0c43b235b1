"""The report in a real browser: it shows its images, keeps hostile prompts inert, and can be searched and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.report import write_report
from tests.integration.chromium import Page
from tests.unit.storage.runs import SmallRun, write_run

HOSTILE = (
    '<script>document.title="owned"</script>',
    "</style><style>body{display:none}</style><img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=alert(1)> ' --> ]]> </title></script><h1>owned</h1>",
    "{{ 7 * 7 }} ${7 * 7} &lt;b&gt; \u202e reversed",
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


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run whose prompts try to break out."""
    folder = tmp_path_factory.mktemp("run")
    write_report(write_run(str(folder), RUN).url)
    return folder / "report.html"


@pytest.fixture
def opened(page: Page, report: Path) -> Iterator[Page]:
    """The tab with the report open; nothing may have gone wrong in it by the end."""
    page.open(report)
    yield page
    assert page.complaints() == []
    assert page.requests() == [report.as_uri()]


def test_every_image_is_shown_and_small_ones_as_squares(opened: Page) -> None:
    """Seven images of 64 pixels, each shown at three times its size, without smoothing."""
    opened.value("Promise.all([...document.images].map((image) => image.decode()))")
    images = opened.value(
        "[...document.images].map((i) => [i.naturalWidth, i.width, getComputedStyle(i).imageRendering])"
    )
    assert images == [[64, 192, "pixelated"]] * 7


def test_hostile_prompts_are_text_and_nothing_else(opened: Page) -> None:
    """Each stands in its caption letter by letter; no element of theirs exists, and no script of theirs ran."""
    captions = opened.value("[...document.querySelectorAll('.caption')].map((e) => e.textContent)")
    assert captions == list(RUN.prompts)
    assert opened.value("document.querySelectorAll('.caption *, .frame svg').length") == 0
    assert opened.value("document.title") == "Run small-run-0001 - ddim-fleet"
    assert opened.value("[document.scripts.length, document.querySelectorAll('style, h1').length]") == [1, 2]
    assert opened.value("getComputedStyle(document.body).display") == "block"


def test_a_script_that_got_into_the_page_would_not_run(opened: Page) -> None:
    """The page's policy is the second wall behind the escaping."""
    opened.value("const intruder = document.createElement('script'); intruder.textContent = 'window.owned = 1'")
    opened.value("document.body.append(intruder)")
    assert opened.value("window.owned === undefined")
    assert any("Content Security Policy" in str(event) for event in opened.complaints())
    opened.events[:] = [event for event in opened.events if "Content Security Policy" not in str(event)]


@pytest.mark.parametrize(
    ("typed", "status", "captions"),
    [
        ("", "", list(RUN.prompts)),
        ("RED", "", ["a red square", "a red circle"]),
        ("circle red", "", ["a red circle"]),
        ("r5", "", ["a blue circle"]),
        ("<script>", "", [HOSTILE[0]]),
        ("", "failed", ["breaks <b>badly</b>"]),
        ("red", "failed", []),
    ],
)
def test_cards_can_be_searched_and_filtered(opened: Page, typed: str, status: str, captions: list[str]) -> None:
    """By words of the caption in any order and case, by id, and by whether there is an image."""
    opened.value(
        f"(() => {{ search.value = {typed!r}; document.getElementById('status').value = {status!r};"
        "search.dispatchEvent(new Event('input')); })()"
    )
    shown = opened.value(
        "[...document.querySelectorAll('.card')].filter((card) => card.checkVisibility())"
        ".map((card) => card.querySelector('.caption').textContent)"
    )
    assert shown == captions
    assert opened.value("nothing.checkVisibility()") == (captions == [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(opened: Page, scheme: str) -> None:
    """A contrast of 4.5 to 1 at least (WCAG 2.2, AA) in both colour schemes."""
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    contrasts = opened.value(CONTRASTS)
    assert len(contrasts) > 10
    assert {name: value for name, value in contrasts.items() if value < 4.5} == {}


def test_it_makes_sense_to_a_screen_reader(opened: Page) -> None:
    """Images and fields have names, and headings go down one level at a time."""
    captions = opened.value("[...document.images].map((i) => i.closest('li').querySelector('.caption').textContent)")
    assert opened.value("[...document.images].map((i) => i.alt)") == captions
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
