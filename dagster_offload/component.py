"""The component `dagster_offload.OffloadPipeline`: a library in anybody's Dagster project, as one `defs.yaml`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.scaffold.scaffold import scaffold_with
from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from dagster_offload.definitions import library_definitions
from dagster_offload.defs.names import names_of
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.settings import Settings
from dagster_offload.settings.loading import settings_of
from dagster_offload.stages.catalog import stage_graph

TEMPLATE = Path(__file__).parent / "component.yaml"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"


class Attributes(Settings):
    """The keys of the pipeline file, and a name."""

    name: str | None = Field(
        default=None,
        pattern=NAME_PATTERN,
        description="prefix of the assets, jobs and sensors, and of the ledger's schema; unset = the component's folder",
    )
    _written: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_written(cls, value: Any, handler: ModelWrapValidatorHandler["Attributes"]) -> "Attributes":
        # Templates such as `{{ env.KEY }}` are resolved later, so the values are kept as they are.
        attributes = handler(value)
        if isinstance(value, Mapping):
            attributes._written = value
        return attributes


class Scaffolder(dg.Scaffolder):
    """Writes a commented `defs.yaml`."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the file. Raises `ValueError` for a Python scaffold: attributes are written in YAML."""
        if request.scaffold_format != "yaml":
            raise ValueError("OffloadPipeline is configured in YAML: leave out --format python")
        text = TEMPLATE.read_text(encoding="utf-8").replace("TYPE", request.type_name)
        file = request.target_path if request.append else request.target_path / "defs.yaml"
        with file.open("a" if request.append else "w", encoding="utf-8") as stream:
            stream.write(f"---\n{text}" if request.append else text)


@scaffold_with(Scaffolder)
class OffloadPipeline(dg.Component):
    """Turns a folder of documents into typed records with a language model that is only sometimes available.

    Attributes are the keys of the pipeline file `offload.yaml`. The assets are `<name>/extracted_text`,
    `<name>/classification`, `<name>/summary` and one for each stage of your own, partitioned by document. The jobs
    `<name>_scan` and `<name>_drain` and their sensors keep them up to date. No executor, instance or daemon is required
    but your project's.

    The variables `OFFLOAD_*` do not apply to a component. Secrets: `api_key: "{{ env.DEEP_API_KEY }}"`.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings

    @classmethod
    def get_model_cls(cls) -> type[Attributes]:
        """The model of the attributes."""
        return Attributes

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> "OffloadPipeline":
        """Resolve the templates of the attributes and validate them. Raises `SettingsError`."""
        resolver = context.resolution_context.at_path("attributes")
        values: dict[str, Any] = dict(resolver.resolve_value(dict(attributes._written)))
        name = values.pop("name", None) or _name_of(context.path)
        return cls(name, settings_of(values, _folder_of(context.path), f"component {name}"))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets, jobs, sensors and resources. Opens nothing."""
        return build_component_definitions(self.name, self.settings)


def build_component_definitions(name: str, settings: Settings) -> dg.Definitions:
    """What the component `name` defines. `settings` apply to every run and tick."""
    slot = DeepSlot(lambda: settings, schema=f"offload_{name}")
    names = names_of(stage_graph(settings), [name], name)
    return library_definitions(settings, slot, names, f"{name}_documents")


def _name_of(path: Path) -> str:
    """The name of the component's folder, as a name for SQL and Dagster."""
    name = re.sub(r"[^a-z0-9_]+", "_", _folder_of(path).name.lower()).strip("_")[:40]
    return name if re.match(NAME_PATTERN, name) else f"library_{name}"[:40]


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path
