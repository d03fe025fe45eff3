"""Records as one HTML page with a search field. The page loads nothing from the network."""

import html
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any, TextIO

from dagster_offload.records.columns import Column, flat

LEFT_OUT = ("path", "outcome", "key_points")
LONGEST_CELL = 600  # characters; the rest is in the other formats

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Records</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #1b1f24; background: #fff }
input { font: inherit; width: min(32rem, 100%); padding: .45rem .6rem; border: 1px solid #b8c0c8; border-radius: 6px }
table { border-collapse: collapse; margin-top: 1rem; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #e3e7eb; overflow-wrap: anywhere }
th { position: sticky; top: 0; background: #f4f6f8 }
tr.failed td, tr.quarantined td { background: #fdecea } tr.deferred td, tr.pending td, tr.claimed td { background: #fff8e6 }
@media (prefers-color-scheme: dark) { body { color: #e6e9ec; background: #15181b } th { background: #22272c }
  th, td { border-color: #333a41 } input { background: #22272c; color: inherit }
  tr.failed td, tr.quarantined td { background: #4a2320 } tr.deferred td, tr.pending td, tr.claimed td { background: #40361c } }
</style></head><body>
<h1>Records</h1>
<label>Search: <input id="words" type="search" autofocus></label> <span id="count"></span>
<table><thead><tr>"""
_TAIL = """</tbody></table>
<script>
const rows = [...document.querySelectorAll("tbody tr")];
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


def write(records: Iterable[Mapping[str, Any]], columns: tuple[Column, ...], out: TextIO) -> int:
    """Write the page. Returns the number of records."""
    shown = tuple(column for column in columns if column.name not in LEFT_OUT)
    out.write(_HEAD + "".join(f"<th>{html.escape(column.name)}</th>" for column in shown) + "</tr></thead><tbody>\n")
    count = 0
    for record in records:
        cells = "".join(f"<td>{html.escape(_cell(value))}</td>" for value in flat(record, shown).values())
        out.write(f'<tr class="{html.escape(record["state"])}">{cells}</tr>\n')
        count += 1
    out.write(_TAIL)
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        here = value
        with suppress(OverflowError):  # a far date, such as 9999-12-31 for "without an end", stays in its own zone
            here = value if value.tzinfo is None else value.astimezone()  # as `status` and `explain` show it
        return here.strftime("%Y-%m-%d %H:%M")
    text = str(value) if isinstance(value, (str, int, float, date)) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
