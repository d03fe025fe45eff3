"""Read records: what a person asks for becomes a selection, and the documents are read page by page."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger_as_it_is
from dagster_offload.ledger.reports import records
from dagster_offload.ledger.reports.records import Selection
from dagster_offload.records.columns import as_record
from dagster_offload.records.conditions import check_states, read_condition
from dagster_offload.settings import Settings, load_settings
from dagster_offload.text.durations import read_duration

DOCUMENTS_A_PAGE = 500


@dataclass(frozen=True)
class Query:
    """What a person asks for, as typed.

    `where`: conditions such as `category=invoice` or `payment.amount>=100`, all of which must hold. `state`: states of
    documents. `changed_since`: a date, a time, or an age such as `2d`. `search`: words that must all occur. One text counts
    as a list of one.
    """

    where: str | Sequence[str] = ()
    state: str | Sequence[str] = ()
    changed_since: str | None = None
    search: str | None = None
    documents: Sequence[str] | None = None

    @property
    def is_filter(self) -> bool:
        """Whether the query may leave documents out."""
        return self != Query()

    def selection(self, settings: Settings) -> Selection:
        """The selection for the ledger. Raises `SettingsError`, which names the part that is wrong."""
        where, states = _as_several(self.where), _as_several(self.state)
        for written in (*where, self.search or ""):
            _check_characters(written)
        check_states(states)
        return Selection(
            conditions=tuple(read_condition(written, settings) for written in where),
            states=states,
            changed_since=None if self.changed_since is None else _moment(self.changed_since),
            words=tuple(unicodedata.normalize("NFC", self.search or "").split()),
            documents=None if self.documents is None else tuple(self.documents),
        )


def _as_several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _check_characters(written: str) -> None:
    """Raise `SettingsError` for a text that no record can hold: bytes that are not UTF-8, or a NUL."""
    try:
        is_text = b"\0" not in written.encode()
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise SettingsError(f"{written!r} is not text in UTF-8: no record can hold it")


def _moment(written: str) -> datetime:
    age = read_duration(written)
    try:
        if age is not None:
            return datetime.now(UTC) - age
        moment = datetime.fromisoformat(written.strip())
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{written!r} is not a time: write an age (30m, 12h, 2d, 1w), a date (2026-03-04) or an ISO 8601 time"
        ) from None


def read(
    *,
    where: str | Sequence[str] = (),
    state: str | Sequence[str] = (),
    changed_since: str | datetime | date | None = None,
    search: str | None = None,
    with_text: bool = False,
    home: Path | str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the records of a home's documents in the order of their keys, read page by page.

    `home` is the folder of OFFLOAD_HOME; None reads it from the settings. Each record is one object: see `columns`.
    Raises `SettingsError` for a field, a value or a state that does not exist, and `LedgerUnavailable`: both are in
    `dagster_offload.errors`.
    """
    settings = load_settings(**({} if home is None else {"home": home}))
    since = changed_since.isoformat() if isinstance(changed_since, date) else changed_since
    query = Query(where, state, since, search)
    query.selection(settings)  # a mistake is raised at the call, not at the first record
    return _read(settings, query, with_text=with_text)


def _read(settings: Settings, query: Query, *, with_text: bool) -> Iterator[dict[str, Any]]:
    with open_ledger_as_it_is(settings) as ledger:
        yield from stream(settings, ledger, query, with_text=with_text)


def stream(
    settings: Settings, ledger: Ledger, query: Query, *, with_text: bool = False, most: int | None = None
) -> Iterator[dict[str, Any]]:
    """The records of an open ledger, at most the first `most`. Memory grows by 8 bytes a document."""
    ids = ledger.run(records.select, query.selection(settings), most)
    for start in range(0, len(ids), DOCUMENTS_A_PAGE):
        page = ledger.run(_page, ids[start : start + DOCUMENTS_A_PAGE], with_text=with_text)
        for found in page:
            yield as_record(found, settings, with_text=with_text)


def read_documents(ledger: Ledger, documents: Sequence[str]) -> list[records.DocumentRecord]:
    """The state and the records of these documents, stage by stage, in the order of their keys."""
    return ledger.run(_page, ledger.run(records.select, Selection(documents=tuple(documents))), with_text=False)


def _page(cur: Any, ids: Sequence[int], *, with_text: bool) -> list[records.DocumentRecord]:
    return list(records.read(cur, ids, with_text=with_text))
