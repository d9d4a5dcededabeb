"""Loading of the text templates that lie in this folder."""

from functools import lru_cache

import jinja2

from blomix.report.text import visible


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """HTML templates escape every value; an unknown name is an error, not an empty string."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("blomix.report", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"visible": visible, "polyline": polyline}
    return made


def polyline(values) -> str:
    """Points of an SVG polyline through `values` in a box of 100 by 20, the largest on top."""
    low, high = min(values), max(values)
    height = (high - low) or 1.0
    width = max(len(values) - 1, 1)
    return " ".join(
        f"{100 * i / width:.1f},{19 - 18 * (value - low) / height:.1f}"
        for i, value in enumerate(values)
    )
