"""Remove an HTML page's titles, meta and base tags, and drawings (SVG) in one pass.

A regular expression from an opening tag to its closing tag searches for the closing tag at every opening tag. A page
with 300,000 unclosed tags took hours. This code searches for a missing closing tag only once.
"""

import re

_OPENINGS = re.compile(r"<(title|svg|meta|base)\b", re.IGNORECASE)
_CLOSINGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("title", "svg")}


def without_head(page: str) -> str:
    """Return `page` without titles, meta and base tags, and drawings. Keeps elements that are not closed."""
    kept, at = [], 0
    unclosed: set[str] = set()
    while (opening := _OPENINGS.search(page, at)) is not None:
        name = opening[1].lower()
        end = -1 if name in unclosed else _end(page, name, opening.end())
        if end < 0:
            unclosed.add(name)  # later ones cannot be closed either
            end = opening.end()
            kept.append(page[at:end])
        else:
            kept.append(page[at : opening.start()])
        at = end
    return "".join([*kept, page[at:]])


def title_of(page: str) -> str | None:
    """Return the text of the first title, or None if there is none or it is not closed."""
    for opening in _OPENINGS.finditer(page):
        if opening[1].lower() != "title":
            continue
        begin = page.find(">", opening.end())
        closing = None if begin < 0 else _CLOSINGS["title"].search(page, begin)
        return None if closing is None else page[begin + 1 : closing.start()]
    return None


def _end(page: str, name: str, begin: int) -> int:
    """Return the position after the element's end, or -1 if it is not closed."""
    if name not in _CLOSINGS:
        return page.find(">", begin) + 1 or -1
    closing = _CLOSINGS[name].search(page, begin)
    return -1 if closing is None else closing.end()
