"""What the YAML parser means, in words that help its reader.

Invariant: the parser's own words stay in the message, since people search for them.
"""

from __future__ import annotations

from typing import Final

_MEANINGS: Final = (
    ("did not find expected key", "its indentation fits none of the lines above, or a value needs quotes"),
    ("did not find expected '-' indicator", "its indentation fits none of the lines above, or a list item has no -"),
    ("mapping values are not allowed", "there is a second ': ' or a nested key in a value; quote the value, or indent"),
    ("could not find expected ':'", "a key without a colon here or in the line before"),
    ("found unexpected end of stream", "a quote or bracket is opened and never closed"),
    ("did not find expected ',' or", "a bracket is opened and not closed, or a comma is missing"),
    ("did not find expected the beginning", "something stands before the document's first key"),
    ("found undefined alias", "a * begins an alias; quote the value if a star is meant"),
    ("cannot start any token", "a character that cannot begin a value; quote it"),
    ("did not find expected alphabetic", "a * or & begins an alias or anchor; quote the value if the sign is meant"),
)


def explain(problem: str, line: str) -> str:
    """The parser's words about this line, and what they usually mean."""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        return f"a tab cannot indent in YAML; use spaces ({problem})"
    for words, meaning in _MEANINGS:
        if words in problem:
            return f"{meaning} ({problem})"
    return problem
