"""Foreign text made harmless: nothing in a text or a label can break a page, a card or a table."""

import re
import unicodedata
from typing import Any

LONGEST = 400  # characters of a text that are shown

# What a sheet takes for the start of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:/@])")


def visible(text: Any, longest: int = LONGEST) -> str:
    """One line of at most `longest` characters, then how many there were.

    Characters that draw nothing but change what is around them (controls, zero-width ones,
    direction marks, lone surrogates) are written as their code, such as ⟨U+202E⟩.
    """
    text = str(text)
    shown = "".join(map(_visible, text[:longest]))
    return shown if len(text) <= longest else f"{shown} … ({len(text):,} characters)"


def _visible(character: str) -> str:
    if character in "\n\r\t\u2028\u2029":
        return " "
    # Cc: controls, Cf: formats, Cs: surrogates, Co: private, Cn: unassigned.
    if unicodedata.category(character).startswith("C"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def markdown(text: Any, longest: int = LONGEST) -> str:
    """`visible` text that Markdown shows as it is."""
    escaped = _MARKDOWN.sub(r"\\\1", visible(text, longest))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cell(value: Any) -> Any:
    """A value for a CSV file that no spreadsheet takes for a formula; numbers stay numbers."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return "'" + value
    return value
