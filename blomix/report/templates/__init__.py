"""Loading of the text templates that lie in this folder."""

from functools import lru_cache

import jinja2


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """HTML templates escape every value; an unknown name is an error, not an empty string."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("blomix.report", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
