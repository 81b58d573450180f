"""Texts that somebody else wrote, without what a terminal or a page would obey.

Orders to a terminal, ends of lines, marks that turn the direction of writing, invisible letters, halves of surrogate
pairs: nothing that a name, a version or a sentence needs.
"""

import re

NOT_PRINTABLE = re.compile(
    "[^\t\x20-\x7e\u00a0-\u061b\u061d-\u200a\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\uf900-\ufefe\uff00-\uffef]"
)
_LINE_ENDS = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
LONGEST = 4000  # characters


def printable(text: str, longest: int = LONGEST) -> str:
    """One line of at most `longest` characters; what cannot be shown is a question mark."""
    shown = NOT_PRINTABLE.sub("?", _LINE_ENDS.sub(" ", text[: longest + 1]))
    return shown if len(text) <= longest else shown[: longest - 3] + "..."
