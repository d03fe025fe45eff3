"""The fields of a pipeline's settings. Their aliases are the keys of the pipeline file. No I/O, except for key files."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import (
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from dagster_offload.library.partition_keys import PartitionRule
from dagster_offload.library.too_large import DEFAULT_MAX_BYTES
from dagster_offload.settings.sections.backup import BackupSection
from dagster_offload.settings.sections.celery import CelerySection
from dagster_offload.settings.sections.keep import KeepSection
from dagster_offload.settings.sections.notify import AnyChannel, NotifySection
from dagster_offload.settings.sections.section import AbsolutePath, Section, Variable
from dagster_offload.settings.sections.sinks import AnySink, SinksSection
from dagster_offload.settings.sections.slots import SlotsSection, slot_mistakes
from dagster_offload.settings.sections.ui import UISection
from dagster_offload.slot.config import DEEP, PRIMARY, Slots
from dagster_offload.stage_spec.relations import BUILT_IN_CLASSES, OTHER, mistakes
from dagster_offload.stage_spec.slots import NamedSlots
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.text.normal_form import in_nfc
from dagster_offload.text.validation import several_faults

# Enough for the answers of a night and for Postgres' write-ahead log (at most 256 MB).
DEFAULT_MIN_FREE_BYTES = 512 * 1024**2


def default_home() -> Path:
    """The platform's data folder. For root, a folder that the unprivileged user of its Postgres can reach."""
    if os.geteuid() == 0:
        return Path("/var/lib/dagster-offload")
    return Path(platformdirs.user_data_dir("dagster-offload", appauthor=False))


def _classes(value: Any) -> Any:
    """A list, or one text with commas, whose blank entries do not count; in Unicode NFC, as answers are compared with it.

    Raises `ValueError` for an empty or a double one.
    """
    if isinstance(value, str):
        value = [name for name in value.split(",") if name.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        return value
    names = tuple(in_nfc(name.strip()) for name in value)
    if "" in names:
        raise ValueError("has an empty entry: remove it, or write the name of the class")
    first: dict[str, str] = {}
    for name in names:
        key = name.casefold()
        if key in first:
            raise ValueError(f"names one class twice, {first[key]!r} and {name!r} (case does not matter): remove one")
        if key == OTHER and name != OTHER:
            raise ValueError(f"has the class {name!r}: remove it, because {OTHER!r} is always there")
        first[key] = name
    return names


def _patterns(value: Any) -> Any:
    """Split a text with commas or line ends into patterns. Raises `ValueError` for one that is none."""
    lines = [line.strip() for line in re.split(r"[,\n]", value)] if isinstance(value, str) else value
    if lines and isinstance(lines, (list, tuple)) and all(isinstance(line, str) for line in lines):
        # Imported here because commands that only read the ledger would load the library of patterns for nothing.
        from dagster_offload.library.ignore import Patterns as Checked

        Checked(lines, "")
        return tuple(lines)
    return lines


Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Classes = Annotated[tuple[str, ...], BeforeValidator(_classes)]


class LibrarySection(Section):
    """Which files are documents."""

    path: Annotated[AbsolutePath | None, Variable("OFFLOAD_LIBRARY")] = Field(
        default=None, description="folder of documents"
    )
    cross_mounts: Annotated[bool, Variable("OFFLOAD_LIBRARY_CROSS_MOUNTS")] = Field(
        default=False, description="also read file systems that are mounted below the library"
    )
    ignore: Annotated[Patterns, Variable("OFFLOAD_IGNORE")] = Field(
        default=(), description="what to leave out of the library: gitignore patterns"
    )
    include: Annotated[Patterns, Variable("OFFLOAD_INCLUDE")] = Field(
        default=(), description="the only files to read: gitignore patterns; unset = all documents"
    )
    max_file_size: Annotated[ByteSize, Variable("OFFLOAD_MAX_FILE_SIZE")] = Field(
        default=ByteSize(DEFAULT_MAX_BYTES),
        gt=0,
        description="a larger file is not read and its document fails (`2GiB`, `500MB`)",
    )
    scan_interval: Annotated[float, Variable("OFFLOAD_SCAN_INTERVAL")] = Field(
        default=60.0, ge=1, description="seconds between two checks of the library for changes"
    )


class StageSettings(Section):
    """The options that every stage has."""

    slots: Annotated[NamedSlots, Variable("OFFLOAD_ANY_STAGES")] = Field(
        default="deep", description="the slots that may answer this stage: `deep`, `any`, or a list: [deep, studio]"
    )


class ClassifySettings(StageSettings):
    """The stage classify."""

    classes: Annotated[Classes, Variable("OFFLOAD_CLASSES")] = Field(
        default=BUILT_IN_CLASSES, description="document classes; `other` is always added"
    )

    @field_validator("classes")
    @classmethod
    def _built_in_if_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return value or BUILT_IN_CLASSES


class SummarizeSettings(StageSettings):
    """The stage summarize."""


class StagesSection(Section):
    """The stages by name: the built-in ones, and any number of the user's own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, StageSpec] = Field(init=False)

    classify: ClassifySettings = Field(default=ClassifySettings(), description="text -> class")
    summarize: SummarizeSettings = Field(default=SummarizeSettings(), description="text -> title, summary, key points")

    @classmethod
    def _may_be_unset(cls, key: str) -> bool:
        """A built-in stage without a value has its defaults. One of the user's own stays, and is refused: it asks nothing."""
        return key in cls.model_fields

    @model_validator(mode="after")
    def _fit_together(self) -> "StagesSection":
        if found := list(mistakes(self.__pydantic_extra__, self.classify.classes)):
            raise several_faults(found)
        return self


class Settings(Section):
    """All settings of one home. `load_settings` creates them.

    A section of the file has a field that ends in `_section`. `library` and `slots` are what the code needs of them.
    """

    home: AbsolutePath = Field(
        default_factory=default_home, description="folder of the ledger, Dagster's state and the logs"
    )
    postgres_url: SecretStr | None = Field(
        default=None, description="URL of your own Postgres; unset = an embedded Postgres in the home"
    )
    library_section: LibrarySection = Field(
        default=LibrarySection(), alias="library", description="which files are documents"
    )
    slots_section: SlotsSection = Field(default=SlotsSection(), alias="slots", description="where completions run")
    stages: StagesSection = Field(default=StagesSection(), description="what each document is asked")
    language: str = Field(
        default="", description="language of the records: `ko`, `English`; unset = the document's language"
    )
    ocr: Literal["auto", "off"] = Field(
        default="auto", description="auto = read text in images if Tesseract is installed"
    )
    ocr_languages: str = Field(
        default="kor+eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$", description="Tesseract language codes, joined by +"
    )
    partition_by: str = Field(
        default="document",
        description="what a Dagster partition holds: one `document`, or those of a `folder`, a `month`, or one of N shards "
        "(`shard:100`)",
        json_schema_extra={"pattern": "^(document|folder|month|shard:[0-9]{1,4})$"},
    )
    retry_after_minutes: float = Field(
        default=30.0, gt=0, le=360, description="wait after a deferral for which the slot sent no time, in minutes"
    )
    prefork: Literal["auto", "off"] = Field(
        default="auto",
        description="off: start run processes without the prefork server (docs/decisions/0004-prefork.md)",
    )

    previews: Literal["on", "off"] = Field(
        default="on", description="off: Dagster's events contain no text of a document or of its record"
    )
    min_free_disk: ByteSize = Field(
        default=ByteSize(DEFAULT_MIN_FREE_BYTES),
        ge=0,
        description="free space that the disk of the embedded Postgres must have before work is started",
    )
    on_record: SinksSection = Field(default=SinksSection(), description="sinks: where each finished record is sent")
    notify: NotifySection = Field(default=NotifySection(), description="channels: who is notified of what")
    keep: KeepSection = Field(default=KeepSection(), description="how much of the past is kept")
    backup: BackupSection = Field(default=BackupSection(), description="the backups that `up` makes")
    celery: CelerySection = Field(
        default=CelerySection(), description="the broker for extraction on several hosts (docs/several-hosts.md)"
    )
    ui: UISection = Field(default=UISection(), description="who may open the UI, and under which address")

    @field_validator("partition_by")
    @classmethod
    def _is_rule(cls, value: str) -> str:
        return str(PartitionRule.parse(value))

    @model_validator(mode="after")
    def _slots_of_stages(self) -> "Settings":
        named = {name: stage.slots for name, stage in self.own_stages.items()}
        named |= {"classify": self.stages.classify.slots, "summarize": self.stages.summarize.slots}
        if found := list(slot_mistakes(self.slots_section, named)):
            raise several_faults(found)
        return self

    @property
    def library(self) -> Path | None:
        """The folder of documents; None if no library is configured."""
        return self.library_section.path

    @property
    def partition_rule(self) -> PartitionRule:
        """How documents are grouped into Dagster partitions."""
        return PartitionRule.parse(self.partition_by)

    @property
    def backup_folder(self) -> Path:
        """The folder for the backups that `up` makes."""
        return self.home / "backups" if self.backup.dir is None else self.backup.dir

    @property
    def own_stages(self) -> Mapping[str, StageSpec]:
        """The stages that a person added, by name, in declared order."""
        return self.stages.__pydantic_extra__ or {}

    @property
    def sinks(self) -> Mapping[str, AnySink]:
        """The sinks by name."""
        return self.on_record.__pydantic_extra__ or {}

    @property
    def channels(self) -> Mapping[str, AnyChannel]:
        """The channels of notifications by name."""
        return self.notify.__pydantic_extra__ or {}

    @property
    def slots(self) -> Slots:
        """The configured slots. Raises `SettingsError`, which names the variable, for a URL without a model."""
        sections = self.slots_section
        further = [section.config(name) for name, section in sections.further.items()]
        return Slots(
            primary=sections.primary.config(PRIMARY),
            deep=sections.deep.config(DEEP),
            further=tuple(slot for slot in further if slot is not None),
        )
