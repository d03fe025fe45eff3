"""Settings and the ledger, for assets, jobs and sensors. Holds configuration only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger, reach_ledger
from dagster_offload.settings import Settings
from dagster_offload.text.plain_text import escaped

SettingsLoader = Callable[[], Settings]


@dataclass(frozen=True)
class DeepSlot:
    """What a step, a job or a sensor works with. Nothing is read or opened before it is asked for.

    The settings are read anew each time, at launch and never at import: a code server outlives a change of `.env`.
    """

    settings_loader: SettingsLoader
    schema: str

    def settings(self) -> Settings:
        """Raises `SettingsError`."""
        return self.settings_loader()

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The migrated ledger for the block. Raises `LedgerUnavailable`."""
        with open_ledger(self.settings(), self.schema) as ledger:
            yield ledger

    @contextmanager
    def unmigrated_ledger(self) -> Iterator[Ledger]:
        """The ledger as a step of this run left it, for a process that waits. Raises `OffloadError`."""
        with reach_ledger(self.settings(), self.schema) as ledger:
            yield ledger


def deep_slot_resource(deep_slot: DeepSlot) -> dg.ResourceDefinition:
    return dg.ResourceDefinition(
        resource_fn=lambda _: deep_slot,
        description="OFFLOAD_* settings -> the ledger.",
    )


@contextmanager
def failures_as_messages() -> Iterator[None]:
    """Errors a person can mend (settings, a lost slot, a refused scan) fail the step with their words alone."""
    try:
        yield
    except OffloadError as error:
        raise dg.Failure(escaped(str(error)), metadata={"error": type(error).__name__}, allow_retries=False) from error
