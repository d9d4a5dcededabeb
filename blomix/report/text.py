"""Foreign text made harmless: nothing in a text or a label can break a page, a card or a table."""

import re
import unicodedata
from typing import Any

LONGEST = 400  # characters of a text that are shown

# A list, heading or rule starts with one of the first; the others mean something anywhere.
_MARKDOWN = re.compile(r"(^\s*[#+\-=]|(?<=\d)[.)]|(?<=www)\.|[\\`*_{}\[\]()!|~$:/@])")


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


def _escape(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}\\{match[0][-1]}"


def markdown(text: Any, longest: int = LONGEST) -> str:
    """`visible` text that Markdown shows as it is."""
    escaped = _MARKDOWN.sub(_escape, visible(text, longest))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
