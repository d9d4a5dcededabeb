"""Figures once drawn, four times kept: SVG for the page, PNG and PDF for papers, CSV for all.

The SVG's colours are names that the page's style sheet resolves, so that one drawing serves light,
dark and print. Its text stays text, in the reader's fonts.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from blomix.data.output import separated_text

INK, MUTED, GRID = "#1b1e23", "#626a75", "#dfe2e6"
# Okabe and Ito's colours for every kind of sight, without the yellow that white swallows.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_NAMES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
_NAMES |= {color: f"var(--series-{i})" for i, color in enumerate(SERIES)}

_FILES: tuple[dict[str, Any], ...] = (
    {"dpi": 160, "facecolor": "white"},  # PNG
    {"metadata": {"CreationDate": None}},  # PDF
)

# Of no use within a page: a style for all elements, fonts, ids that the next drawing has too (those
# of clip paths and markers are salted by the chart's name, and stay).
_NOT_INLINE = (
    re.compile(r"<style.*?</style>", re.DOTALL),
    re.compile(r"font-family: [^;\"]*;?"),
    re.compile(r' id="[a-zA-Z][\w.]*_\d+"'),
)

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label with $ is a label
    "axes.unicode_minus": False,
}


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure with its data: `columns` of equal length, which become the CSV."""

    name: str
    title: str
    caption: str
    figure: Figure
    columns: Mapping[str, Sequence[Any]]
    families: tuple[str, ...]

    def svg(self) -> str:
        """An <svg> element that fills its column, in the page's fonts and colours."""
        out = io.StringIO()
        with _drawing(self.families, hashsalt=self.name):
            self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        text = out.getvalue()
        view = re.search(r'viewBox="[^"]*"', text)
        body = text[text.index("</metadata>") + len("</metadata>") :]
        for pattern in _NOT_INLINE:
            body = pattern.sub("", body)
        for color, name in _NAMES.items():
            body = body.replace(color, name)
        return f'<svg {view.group() if view else ""} aria-hidden="true">{body}'

    def save(self, folder: Path) -> list[Path]:
        """Writes NAME.png, NAME.pdf and NAME.csv."""
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("png", "pdf", "csv")]
        with _drawing(self.families, hashsalt=self.name):
            # Drawn in memory: on a full disk the PDF's writer fails with errors of its own.
            for path, options in zip(paths, _FILES, strict=False):
                drawn = io.BytesIO()
                self.figure.savefig(drawn, format=path.suffix[1:], **options)
                path.write_bytes(drawn.getvalue())
        paths[2].write_text(separated_text(self.columns), encoding="utf-8", newline="")
        return paths


@contextmanager
def canvas(
    width: float = 4.6, height: float = 3.0, labels: Iterable[str] = ()
) -> Iterator[tuple[Figure, Any, tuple[str, ...]]]:
    """A figure with one pair of axes, in the house's style, and the fonts that `labels` need."""
    families = tuple(_fonts("".join(labels)))
    with _drawing(families):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(), families
        # Laid out once; else each of the three files would do it again, at twice the cost.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def drawable(labels: Sequence[str], longest: int = 18) -> list[str]:
    """The labels as a figure can show them: shortened, or numbered from 1 where no installed font
    has their characters."""
    text = "".join(labels)
    covered = set().union(*(_characters(path) for path in _fonts(text).values()))
    if covered.issuperset(map(ord, text)):
        return [s if len(s) <= longest else s[: longest - 1] + "…" for s in labels]
    return [str(i) for i in range(1, len(labels) + 1)]


def _fonts(text: str) -> dict[str, str]:
    """Font families, with their files, that together have the characters of `text`, as far as
    installed fonts do."""
    fonts = {"DejaVu Sans": str(font_manager.findfont("DejaVu Sans"))}
    missing = {ord(character) for character in text} - _characters(fonts["DejaVu Sans"])
    if missing:
        _know_new_fonts()
    installed = sorted(font_manager.fontManager.ttflist, key=lambda e: (e.weight != 400, e.name))
    for entry in installed if missing else ():
        # "Last Resort" has a box for everything and a letter for nothing.
        if entry.name in fonts or entry.name.startswith("Last Resort"):
            continue
        if found := missing & _characters(str(entry.fname)):
            fonts[entry.name] = str(entry.fname)
            missing -= found
    return fonts


@lru_cache(maxsize=1)
def _know_new_fonts() -> None:
    """matplotlib keeps a list of fonts from its first use; those installed since are added."""
    known = {str(entry.fname) for entry in font_manager.fontManager.ttflist}
    for path in set(font_manager.findSystemFonts()) - known:
        try:
            font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError, ValueError):
            continue  # a broken font, or a kind that matplotlib does not draw


@lru_cache(maxsize=512)
def _characters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a broken font is a font without characters
        return frozenset()


@contextmanager
def _drawing(families: Sequence[str], hashsalt: str | None = None) -> Iterator[None]:
    with rc_context({**_STYLE, "font.family": list(families), "svg.hashsalt": hashsalt}):
        yield
