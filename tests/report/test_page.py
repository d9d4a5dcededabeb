"""The page: complete, self-contained, and proof against any text."""

import csv
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from blomix.report.page import report
from blomix.report.text import LONGEST, visible
from tests.report.synthetic import write_run

HOSTILE = [
    "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>",
    "</style></svg></pre></bdi></table>--><!-- &lt; \" ' `",
    "\u202eright to left override\u2066\u200b\u200d\ufeff\x00\x1b[31m",
    "مرحبا بالعالم و שלום",
    "{{ 7 * 7 }} {% include 'secret' %} $x^{2}$ \\frac{1}{2}",
    '=HYPERLINK("http://evil.example")',
    "日本語のラベル 😀",
    "word" * 30_000,
    "a\nb\r\nc\td\u2028e",
]
SECTIONS = ("scores", "modules", "alpha", "training", "predictions", "audit")


class Tags(HTMLParser):
    """Counts tags and keeps attributes that could load or run something."""

    def __init__(self, page):
        super().__init__()
        self.open, self.loads, self.ids = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        for name, value in attributes:
            if name.startswith("on") or name in ("src", "srcset", "href", "xlink:href", "action"):
                self.loads.append((tag, name, value))
            if name == "id":
                self.ids.append(value)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = [write_run(folder / "a"), write_run(folder / "b", "plain", skill=0.9)]
    path, _ = report(runs)
    return path


def test_every_section_is_there_and_the_verdict_comes_first(page):
    text = page.read_text()
    places = [text.index(f'<section id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    assert text.index("<h1>") < places[0]
    assert text.count("<svg") > 10


def test_nothing_is_loaded_or_run(page):
    tags = Tags(page.read_text())
    assert "script" not in tags.open
    assert all(value.startswith(("#", "data:")) for _, _, value in tags.loads), tags.loads
    assert "default-src 'none'" in page.read_text()


def test_ids_are_unique(page):
    ids = Tags(page.read_text()).ids
    assert len(ids) == len(set(ids))


def test_figures_lie_beside_the_page_with_their_data(page):
    figures = page.parent / "figures"
    names = {path.stem for path in figures.glob("*.png")}
    assert {"scores", "share", "change", "alpha_over_time", "calibration", "losses"} <= names
    for name in names:
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        rows = list(csv.reader((figures / f"{name}.csv").read_text().splitlines()))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1


def test_no_text_or_label_breaks_the_page(tmp_path):
    names = tuple(f"label {i}" for i in range(len(HOSTILE)))
    plain, _ = report([write_run(tmp_path / "a", steps=4, labels=names, n=90)])
    path, _ = report(
        [write_run(tmp_path / "b", labels=tuple(HOSTILE), texts=HOSTILE, steps=4, n=90)]
    )
    page = path.read_text()
    expected, found = Tags(plain.read_text()), Tags(page)
    assert Counter(found.open)["bdi"] == Counter(expected.open)["bdi"]
    assert set(found.open) == set(expected.open)
    assert all(value.startswith(("#", "data:")) for _, _, value in found.loads)
    assert len(page) < len(plain.read_text()) + 100_000  # the long text is cut
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\x00\x1b]", page)
    with (path.parent / "figures" / "confusion.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'" + HOSTILE[5] in cells
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_a_regression_has_a_scatter_in_place_of_the_confusion_matrix(tmp_path):
    path, _ = report([write_run(tmp_path / "a", labels=(), steps=4)])
    assert 'id="figure-scatter"' in path.read_text()
    assert 'id="figure-confusion"' not in path.read_text()


def test_a_plain_run_has_no_alpha(tmp_path):
    path, _ = report([write_run(tmp_path / "a", "plain")])
    assert '<section id="alpha"' not in path.read_text()
    assert "has no shares" in path.read_text()


def test_long_text_is_cut_and_says_how_long_it_was():
    assert visible("x" * 1_000_000) == "x" * LONGEST + " … (1,000,000 characters)"


def test_characters_that_draw_nothing_are_named():
    assert visible("a\u202eb\u200bc\x07\ud800") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+0007⟩⟨U+D800⟩"
