"""What a scan refuses until a person confirms it: to lose many documents, or to take another library for this one."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from dagster_offload.errors import ScanRefused
from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.identity import ScannedLibrary
from dagster_offload.ledger.core.workers import live_workers
from dagster_offload.ledger.work import documents
from dagster_offload.library.files import printable
from dagster_offload.library.left_out import LeftOut
from dagster_offload.library.missing import is_empty
from dagster_offload.library.walk import Walk
from dagster_offload.settings import Settings

VANISHED_SHARE = 0.2
VANISHED_COUNT = 10
REASONS_SHOWN = 3


def refuse_another_library(
    settings: Settings,
    ledger: Ledger,
    last: ScannedLibrary | None,
    here: ScannedLibrary,
    library: Path,
    found: Walk,
    *,
    kept: int,
    present: int,
) -> None:
    """Raise `ScanRefused` if the last scan read another path, and less than half of the ledger's documents are in this one.

    While another scan is at work, the documents of a ledger that has none may be on their way.
    """
    is_known = 2 * kept >= present if present else not _is_another_scan_alive(ledger)
    if last is None or last.path == here.path or is_known:
        return
    what = f"{here.path} has {kept} of its {present} documents. Nothing was changed."
    if not present:
        what = "another scan is running. Nothing was changed."
    elif _is_empty(found):
        what = f"no document was found in {here.path}. Nothing was changed. Is it mounted?"
    own = next_steps.another_ledger(ledger.schema, is_embedded=settings.postgres_url is None)
    raise ScanRefused(
        f"this ledger holds the library {last.path} (scanned on {last.host}), and {what} If {here.path} is another library, "
        f"give it a ledger of its own: {own}. If this ledger is to hold it from now on, confirm it: "
        f"{next_steps.accept_vanished(ledger.schema, printable(str(library)))}"
    )


def _is_another_scan_alive(ledger: Ledger) -> bool:
    """Whether a scan is at work beside this one. In containers, both may have the same host name and process id."""
    return len(ledger.run(live_workers, ledger.schema, "scan")) > 1


def why_emptied(library: Path, ledger: Ledger) -> str | None:
    """Why a library that can be listed is taken for missing: no scan reads it. None if it is not."""
    if not is_empty(library) or not ledger.run(documents.has_present):
        return None
    accept = next_steps.accept_vanished(ledger.schema, printable(str(library)))
    return f"is empty, while the ledger has documents (if it is to be empty: {accept})"


def _is_empty(found: Walk) -> bool:
    return not found.count and not found.not_downloaded


def refuse_mass_vanishing(
    library: Path, found: Walk, vanished: Mapping[str, LeftOut | None], present: int, schema: str
) -> None:
    """Raise `ScanRefused` if no document is left, or more than 10 and more than 20 % are gone or left out by a rule."""
    is_empty = _is_empty(found)
    is_mass = len(vanished) > VANISHED_COUNT and len(vanished) > VANISHED_SHARE * present
    if not present or not (is_empty or is_mass):
        return
    reasons = Counter(left.reason for left in vanished.values() if left is not None)
    left_out = reasons.total()
    what = f"{len(vanished) - left_out} of {present} documents are gone from {library}"
    if is_empty and not left_out:
        what = f"no document found in {library}, while the ledger has {present}"
    elif left_out == len(vanished):
        what = f"{left_out} of {present} documents are now left out of {library}"
    elif left_out:
        what += f", and {left_out} are now left out"
    why = "".join(f" Left out: {count} because {reason}." for reason, count in reasons.most_common(REASONS_SHOWN))
    question = " Is it mounted?" if left_out < len(vanished) or not left_out else ""
    accept = next_steps.accept_vanished(schema, printable(str(library)))
    raise ScanRefused(f"{what}. Nothing was changed.{why}{question} To accept this: {accept}")
