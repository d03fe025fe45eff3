"""The resource of assets, jobs and sensors: settings and the ledger. It holds configuration only."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import dagster as dg

from dagster_offload.errors import OffloadError, SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import ResidentLedger, open_ledger, reach_ledger
from dagster_offload.settings import Settings
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages.catalog import stage_graph
from dagster_offload.text.plain_text import code_span, escaped

SettingsLoader = Callable[[], Settings]


@dataclass(frozen=True)
class DeepSlot:
    """The settings and the ledger for a step or a sensor. It reads and opens nothing until a method is called.

    Each call reads the settings again, because `.env` can change while a code server runs.
    """

    settings_loader: SettingsLoader
    schema: str
    _resident: ResidentLedger = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_resident", ResidentLedger(self.schema))

    def settings(self) -> Settings:
        """Read the settings. Raises `SettingsError`."""
        return self.settings_loader()

    def ledger(self) -> AbstractContextManager[Ledger]:
        """Open the ledger for the block and migrate it. Raises `LedgerUnavailable`."""
        return open_ledger(self.settings(), self.schema)

    def resident_ledger(self, settings: Settings) -> Ledger:
        """The migrated ledger that this process keeps open, for the ticks of sensors. Raises `LedgerUnavailable`."""
        return self._resident.get(settings)

    def unmigrated_ledger(self) -> AbstractContextManager[Ledger]:
        """Open the ledger for the block without a migration: a step of this run has migrated it. Raises `OffloadError`."""
        return reach_ledger(self.settings(), self.schema)


def deep_slot_resource(deep_slot: DeepSlot, settings: Settings) -> dg.ResourceDefinition:
    """The Dagster resource that provides this `DeepSlot`. Its description says what the settings are."""

    def settings_and_ledger(_: object) -> DeepSlot:  # the UI shows this name
        return deep_slot

    return dg.ResourceDefinition(resource_fn=settings_and_ledger, description=describe(settings))


def describe(settings: Settings) -> str:
    """The main settings in words, as Markdown. It holds no secret."""
    library = settings.library_section
    where = "none: set OFFLOAD_LIBRARY" if settings.library is None else code_span(str(settings.library))
    lines = [
        "The settings and the ledger, as they were when the definitions were loaded.",
        f"Library: {where}, checked every {library.scan_interval:g} s",
        *_describe_slots(settings),
        f"Stages: {', '.join(stage_graph(settings).names)}",
        f"OCR: {settings.ocr}; texts and records in Dagster's events: {settings.previews}",
        f"Home: {code_span(str(settings.home))}",
        "All settings: `dagster-offload config show`, or the attributes of the component.",
    ]
    return "\n\n".join(lines)


def _describe_slots(settings: Settings) -> list[str]:
    try:
        slots = settings.slots
    except SettingsError as error:
        return [f"Deep slot: {code_span(str(error))}"]
    if slots.deep is None:
        return ["Deep slot: none. Set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL"]
    return [_describe_slot(slot, settings) for slot in slots.of_drains]


def _describe_slot(slot: SlotConfig, settings: Settings) -> str:
    expected = "any model may answer"
    if slot.expected_model is not None:
        expected = f"only a model that matches {code_span(slot.expected_model)} may answer"
    return (
        f"{slot.name.capitalize()} slot: {code_span(slot.model)} at {code_span(slot.shown_url)}, calls at once: "
        f"{slot.concurrency}, {expected}, after a deferral it is tried again within {settings.retry_after_minutes:g} minutes"
    )


@contextmanager
def failures_as_messages() -> Iterator[None]:
    """Turn an `OffloadError` (wrong settings, a lost slot, a refused scan) into a failure that shows only its message."""
    try:
        yield
    except OffloadError as error:
        raise dg.Failure(escaped(str(error)), metadata={"error": type(error).__name__}, allow_retries=False) from error
