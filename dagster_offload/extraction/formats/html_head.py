"""What a page says about itself (title, meta tags) and draws (SVG), taken out in one pass.

A regular expression from an opening to its closing tag looks for the closing tag again at every opening one. A page of
300,000 unclosed tags took hours. Here a tag that is not closed is looked for once.
"""

import re

_OPENINGS = re.compile(r"<(title|svg|meta|base)\b", re.IGNORECASE)
_CLOSINGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("title", "svg")}


def without_head(page: str) -> str:
    """`page` without its titles, meta and base tags, and drawings. What is not closed stays."""
    kept, at = [], 0
    unclosed: set[str] = set()
    while (opening := _OPENINGS.search(page, at)) is not None:
        name = opening[1].lower()
        end = -1 if name in unclosed else _end(page, name, opening.end())
        if end < 0:
            unclosed.add(name)  # nor will the next one be
            end = opening.end()
            kept.append(page[at:end])
        else:
            kept.append(page[at : opening.start()])
        at = end
    return "".join([*kept, page[at:]])


def title_of(page: str) -> str | None:
    """The text of the first title that is closed."""
    for opening in _OPENINGS.finditer(page):
        if opening[1].lower() != "title":
            continue
        begin = page.find(">", opening.end())
        closing = None if begin < 0 else _CLOSINGS["title"].search(page, begin)
        return None if closing is None else page[begin + 1 : closing.start()]
    return None


def _end(page: str, name: str, begin: int) -> int:
    """Where the element ends, -1 where it does not."""
    if name not in _CLOSINGS:
        return page.find(">", begin) + 1 or -1
    closing = _CLOSINGS[name].search(page, begin)
    return -1 if closing is None else closing.end()
