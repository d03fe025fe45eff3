"""Looks whether the library differs from the ledger, in the background if that takes long.

A walk of a large library on a network drive takes minutes, and Dagster ends a sensor's tick after one. The walk would go on,
and each tick would begin another beside it.
"""

import time
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from dagster_offload.engine.scan import library_differs, walk_rules
from dagster_offload.errors import StillLooking
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings
from dagster_offload.text.durations import duration


@dataclass(frozen=True)
class _Look:
    of: Hashable  # the library and what is left out
    began: float  # on the monotonic clock
    result: "Future[str | None]"


class LibraryLook:
    """One look at a time. One for each sensor."""

    def __init__(self) -> None:
        self._look: _Look | None = None

    def differs(self, settings: Settings, ledger: Ledger, patience: float) -> str | None:
        """What `library_differs` returns or raises. Waits at most `patience` seconds, then raises `StillLooking`; a later
        call gets the result of the same look."""
        of = (settings.library, walk_rules(settings))
        look = self._look
        if look is None or look.of != of:
            look = _Look(of, time.monotonic(), start_in_daemon_thread(library_differs, settings, ledger))
        self._look = look
        try:
            result = look.result.exception(timeout=patience)
        except TimeoutError:
            took = duration(time.monotonic() - look.began)
            raise StillLooking(f"the library has been looked at for {took}, and the look has not ended") from None
        self._look = None
        if result is not None:
            raise result
        return look.result.result()
