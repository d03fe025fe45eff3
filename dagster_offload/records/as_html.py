"""Records as one HTML page with a search field. The page loads nothing from the network."""

import html
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from dagster_offload.records.columns import Column, flat
from dagster_offload.records.words import in_words
from dagster_offload.stages.answers.quotes import QUOTES
from dagster_offload.text.plain_text import escaped

LONG = 40  # characters from which on a field has a line of its own
# What the top of a record shows; its other fields are below, each with its name.
_ON_TOP = ("document", "state", "title", "summary")

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --text: #1b1f24; --faint: #5b6672; --page: #f4f6f8; --card: #fff; --line: #d9dfe5;
  --failed: #b3261e; --waiting: #8a6100 }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #e6e9ec; --faint: #9aa5b1; --page: #101316; --card: #1a1e22;
  --line: #333a41; --failed: #ff8a80; --waiting: #ffca62 }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 70rem; color: var(--text);
  background: var(--page) }}
input {{ font: inherit; box-sizing: border-box; width: min(32rem, 100%); padding: .45rem .6rem; color: inherit;
  background: var(--card); border: 1px solid var(--line); border-radius: 6px }}
article {{ margin: 1rem 0; padding: .9rem 1.1rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px }}
article.failed, article.quarantined {{ border-left: 4px solid var(--failed) }}
article.deferred, article.pending, article.claimed {{ border-left: 4px solid var(--waiting) }}
h2 {{ font-size: 1.1rem; margin: 0 }}
h2, p, dd {{ overflow-wrap: break-word }}
p {{ margin: .3rem 0; max-width: 48rem }}
.document, .quote, dt, #count {{ color: var(--faint); font-size: .87rem }}
dl {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: .5rem 1.2rem;
  margin: .7rem 0 0 }}
dl > div {{ min-width: 0 }}
dl > .long {{ grid-column: 1 / -1; max-width: 48rem }}
dd {{ margin: 0 }}
</style></head><body>
<h1>{heading}</h1>
{note}<label>Search: <input id="words" type="search" autofocus></label> <span id="count"></span>
<main>
"""
_TAIL = """</main>
<script>
const rows = [...document.querySelectorAll("article")];
const words = document.getElementById("words"), count = document.getElementById("count");
const texts = rows.map(row => row.textContent.toLowerCase());
function search() {
  const wanted = words.value.toLowerCase().split(/\\s+/).filter(word => word);
  let shown = 0;
  rows.forEach((row, index) => {
    row.hidden = !wanted.every(word => texts[index].includes(word));
    if (!row.hidden) shown += 1;
  });
  count.textContent = shown + " of " + rows.length;
}
words.addEventListener("input", search);
search();
</script></body></html>
"""


def write(
    records: Iterable[Mapping[str, Any]],
    columns: tuple[Column, ...],
    out: TextIO,
    *,
    heading: str = "Records",
    note: str = "",
) -> int:
    """Write the page. Returns the number of records. `note` is a sentence below the heading."""
    written_note = f"<p>{html.escape(note)}</p>\n" if note else ""
    out.write(_HEAD.format(heading=html.escape(heading), note=written_note))
    count = 0
    for record in records:
        out.write(_article(record, columns))
        count += 1
    out.write(_TAIL)
    return count


def _article(record: Mapping[str, Any], columns: tuple[Column, ...]) -> str:
    texts = {name: in_words(value) for name, value in flat(record, columns).items() if value not in (None, [], {})}
    # Shown also if they are no columns of the page: what a record is of, and whether it is one yet.
    document, state = escaped(record.get("document") or ""), record.get("state") or ""
    title, is_done = texts.get("title"), state in ("", "done")
    below = " · ".join(part for part in (document if title else "", "" if is_done else state) if part)
    fields = (column for column in columns if column.name in texts and column.name not in _ON_TOP)
    parts = [
        f"<h2>{html.escape(title or document)}</h2>",
        f'<p class="document">{html.escape(below)}</p>' if below else "",
        f"<p>{html.escape(texts['summary'])}</p>" if "summary" in texts else "",
        "<dl>",
        *(_field(column.name, texts[column.name], _quotes(record, column)) for column in fields),
        "</dl>",
    ]
    return f'<article class="{html.escape(state)}">\n' + "\n".join(filter(None, parts)) + "\n</article>\n"


def _field(name: str, text: str, quotes: list[str]) -> str:
    long = ' class="long"' if max(map(len, (text, *quotes))) > LONG else ""
    stated_by = "".join(f'<dd class="quote">“{html.escape(quote)}”</dd>' for quote in quotes)
    return f"<div{long}><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>{stated_by}</div>"


def _quotes(record: Mapping[str, Any], column: Column) -> list[str]:
    """The words of the document that state the values of a column, each once."""
    found = ((record.get(column.stage or "") or {}).get(QUOTES) or {}).get(column.field)
    each = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(quote["text"] for quote in each if quote))
