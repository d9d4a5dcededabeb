"""The page in a real browser: figures visible, nothing logged or fetched, usable on a phone."""

import pytest

from blomix.pilot.decision import decide
from blomix.pilot.page import write_page as write_pilot_page
from blomix.report.compare import compare, write_page
from blomix.report.page import report
from blomix.report.reading import RunRecord
from tests.pilot.test_decision import cells
from tests.report.browser import Browser
from tests.report.golden import pilot, unpack
from tests.report.synthetic import write_run
from tests.report.test_page import HOSTILE


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    japanese = ("許容できない", "許容できる")
    runs = [
        write_run(folder / "a", labels=japanese, texts=HOSTILE[:3]),
        write_run(folder / "b", "plain", skill=0.9, labels=japanese, texts=HOSTILE[:3]),
    ]
    report(runs, folder / "report")
    records = [RunRecord.load(run) for run in runs]
    write_page(compare(records), records, folder / "compare")
    trial = cells()
    result = {"metric": "accuracy", "data": HOSTILE[0], "examples": 266, "budget_seconds": 60.0}
    result["command"] = "blomix finetune --train " + "/a-long-folder" * 30
    pilot = write_pilot_page(decide(trial, target=0.9), trial, result, folder / "pilot")
    return {
        "report": folder / "report/report.html",
        "compare": folder / "compare/compare.html",
        "pilot": pilot,
    }


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The page of a real run by its name, written when it is first asked for."""
    folder, written = tmp_path_factory.mktemp("real"), {}

    def page(name):
        if name not in written:
            runs = [unpack(one, folder) for one in (name, f"{name}_plain")]
            written[name], _ = report(runs, folder / "pages" / name)
        return written[name]

    return page


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["report", "compare", "pilot"])
def test_the_page_fits_and_is_quiet(browser, pages, name, width):
    fits_and_is_quiet(browser, pages[name], width)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["cola_300", "stsb_300", "headlines_100"])
def test_the_page_of_a_real_run_fits_and_is_quiet(browser, real, name, width):
    fits_and_is_quiet(browser, real(name), width)
    titles = browser.evaluate("[...document.querySelectorAll('figure')].map(f => f.id)")
    last = "scatter" if name == "stsb_300" else "calibration"
    assert {"figure-share", "figure-change", "figure-search_losses", f"figure-{last}"} <= {*titles}
    # The verdict stands above the fold, on a phone too.
    assert browser.evaluate("document.querySelector('h1').getBoundingClientRect().bottom") < 500


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_real_pilot_fits_and_is_quiet(browser, tmp_path, width):
    trial, result = pilot()
    page = write_pilot_page(decide(trial), trial, result, tmp_path)
    fits_and_is_quiet(browser, page, width)
    assert browser.evaluate("document.querySelectorAll('figure').length") == 2


def fits_and_is_quiet(browser, page, width):
    browser.open(page, width)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    hidden = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].filter(svg => {"
        "const box = svg.getBoundingClientRect();"
        "return box.width < 200 || box.height < 40 || box.right > innerWidth + 1})"
        ".map(svg => svg.closest('figure').id)"
    )
    assert hidden == []
    clipped = browser.evaluate(
        "[...document.querySelectorAll('figure svg text')].filter(text => {"
        "const box = text.getBoundingClientRect();"
        "const whole = text.closest('svg').getBoundingClientRect();"
        "return box.left < whole.left - 2 || box.right > whole.right + 2"
        " || box.top < whole.top - 2 || box.bottom > whole.bottom + 2})"
        ".map(text => text.closest('figure').id + ': ' + text.textContent)"
    )
    assert clipped == []


def test_figures_are_drawn_with_their_labels(browser, pages):
    browser.open(pages["report"], 1280)
    figures = browser.evaluate("document.querySelectorAll('figure svg').length")
    assert figures >= 11
    text = browser.evaluate("document.querySelector('#figure-losses svg').textContent")
    assert "loss" in text
    assert "step" in text


def test_dark_and_light_differ_and_both_can_be_read(browser, pages):
    contrast = (
        "(() => { const light = color => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number)"
        ".map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);"
        "return 0.2126 * r + 0.7152 * g + 0.0722 * b };"
        "const style = getComputedStyle(document.body);"
        "const pair = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);"
        "return [(pair[0] + 0.05) / (pair[1] + 0.05), style.backgroundColor,"
        "getComputedStyle(document.querySelector('#figure-losses text')).fill] })()"
    )
    seen = {}
    for dark in (False, True):
        browser.open(pages["report"], 1280, dark=dark)
        seen[dark] = browser.evaluate(contrast)
        assert seen[dark][0] > 7
    assert seen[False][1] != seen[True][1]
    assert seen[False][2] != seen[True][2]


def test_foreign_text_stays_text(browser, pages):
    browser.open(pages["report"], 390)
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("document.images.length") == 0
    assert "許容できる" in browser.evaluate("document.body.textContent")
    assert "<script>alert(1)</script>" in browser.evaluate("document.body.textContent")


def test_rows_and_columns_open_on_demand(browser, pages):
    browser.open(pages["report"], 1280)
    strip = "document.querySelector('details.strips svg').checkVisibility()"
    assert not browser.evaluate(strip)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate(strip)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_page_prints(browser, pages):
    browser.open(pages["report"], 1280)
    assert browser.print().startswith(b"%PDF")
