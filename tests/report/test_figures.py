"""Figures draw any label without a warning, and serve a page that is light or dark."""

import re

import pytest
from matplotlib import font_manager

from blomix.report import figures
from blomix.report.figures import SERIES, Chart, canvas, drawable


def chart(name="toy", labels=("a",)):
    with canvas(labels=labels) as (figure, axes, families):
        axes.plot([1, 2], [2, 1], "o-", color=SERIES[0], label=labels[0])
        axes.legend()
    return Chart(name, "Title", "Caption", figure, {"x": [1, 2]}, families)


def test_labels_that_no_font_has_become_numbers(monkeypatch, tmp_path):
    ours = [entry for entry in font_manager.fontManager.ttflist if entry.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    monkeypatch.setattr(figures, "_know_new_fonts", lambda: None)
    labels = drawable(["許容できる", "plain"])
    assert labels == ["1", "2"]
    assert all(path.is_file() for path in chart(labels=labels).save(tmp_path))


def test_labels_that_a_font_has_stay_and_are_shortened():
    assert drawable(["plain", "x" * 30], longest=10) == ["plain", "x" * 9 + "…"]


def test_a_font_is_looked_for_among_the_installed_ones(monkeypatch):
    entry = font_manager.FontEntry(fname="cjk.ttf", name="A CJK font", weight=400)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [entry])
    monkeypatch.setattr(figures, "_know_new_fonts", lambda: None)
    known = figures._characters
    monkeypatch.setattr(
        figures,
        "_characters",
        lambda path: frozenset(map(ord, "許容")) if path == "cjk.ttf" else known(path),
    )
    assert drawable(["許容"]) == ["許容"]
    assert drawable(["できる"]) == ["1"]


def test_a_font_installed_since_matplotlib_listed_them_is_found(monkeypatch, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    installed = [str(font_manager.findfont("cmr10")), str(broken)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    figures._know_new_fonts.__wrapped__()
    assert [entry.name for entry in font_manager.fontManager.ttflist] == ["cmr10"]


def test_japanese_labels_are_drawn_in_a_font_that_has_them(tmp_path):
    labels = drawable(["許容できる", "許容できない"])
    if labels == ["1", "2"]:
        pytest.skip("no Japanese font on this machine (Debian: apt-get install fonts-vlgothic)")
    drawn = chart(labels=labels)  # a missing glyph is a warning, and here an error
    assert "許容できる" in drawn.svg()
    assert all(path.is_file() for path in drawn.save(tmp_path))


def test_mathematics_in_a_label_is_only_text(tmp_path):
    drawn = chart(labels=("$\\frac{1}{$ <b> & _x",))
    assert "$\\frac{1}{$ &lt;b&gt; &amp; _x" in drawn.svg()
    drawn.save(tmp_path)


def test_colours_are_the_page_s():
    svg = chart().svg()
    assert "var(--series-0)" in svg
    assert "var(--ink)" in svg
    assert not re.search("#(0072b2|1b1e23)", svg)


def test_ids_of_two_charts_never_meet():
    first, second = (set(re.findall(r'\bid="([^"]+)"', chart(name).svg())) for name in "ab")
    assert first
    assert not first & second
