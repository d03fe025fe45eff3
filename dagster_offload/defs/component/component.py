"""`OffloadPipeline`: loads the attributes and builds the definitions of one library. It opens nothing."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.resolved.scopes import LoadContextScope
from dagster.components.scaffold.scaffold import scaffold_with

from dagster_offload.defs.component.attributes import NAME_PATTERN, NAME_RULE, Attributes, still_to_set
from dagster_offload.defs.component.scaffold import Scaffolder
from dagster_offload.defs.definitions import library_definitions
from dagster_offload.defs.names import SENSOR, names_of
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings
from dagster_offload.settings.loading import settings_of
from dagster_offload.stages.catalog import stage_graph
from dagster_offload.text.lists import listed


@scaffold_with(Scaffolder)
class OffloadPipeline(dg.Component):
    """Turns a folder of documents into typed records with a language model that is only sometimes available.

    **Assets**, one partition per document: `<name>/extracted_text`, `<name>/classification`, `<name>/summary`, and one for
    each stage of your own. `<name>/records` is materialized when records change.

    **Jobs** `<name>_scan` and `<name>_drain`, each with a sensor that is on from the start: the first when files are new or
    changed, the second when documents are due and the slot answers. No executor, instance or daemon is required but
    your project's.

    **Attributes** are the keys of the pipeline file. `<name>` is the folder's name, unless `name` is set:

    ```yaml
    type: dagster_offload.OffloadPipeline

    attributes:
      library: {path: ~/Documents}
      slots:
        deep:
          url: http://macbook.local:8890
          model: qwen-macbook
          api_key: "{{ env('DEEP_API_KEY') }}"
      stages:
        payment:
          prompt: What must be paid, to whom, and by when?
          answer: {payee: string, amount: number, due: date}
    ```

    **Inputs** of your assets: `ins={"summary": dg.AssetIn(["<name>", "summary"])}` gets the text or the record of the same
    partition, as `str`, `dict` or a pydantic model.

    The variables `OFFLOAD_*` do not apply to a component.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What Dagster's UI and `dg` show beside the description."""
        return dg.ComponentTypeSpec(
            tags=["documents", "llm"], produces=["asset", "asset_check", "job", "sensor", "resource"]
        )

    @classmethod
    def get_model_cls(cls) -> type[Attributes]:
        """The model of the attributes."""
        return Attributes

    @classmethod
    def load(cls, attributes: Any, context: dg.ComponentLoadContext) -> "OffloadPipeline":
        """Resolve the templates of the attributes and validate them. Raises `SettingsError`."""
        # As for Dagster's own components: `{{ context.project_root }}`.
        scope = {"context": LoadContextScope(context)}  # type: ignore[no-untyped-call]
        resolver = context.with_rendering_scope(scope).resolution_context.at_path("attributes")
        values: dict[str, Any] = dict(resolver.resolve_value(dict(attributes.written if attributes else {})))
        name = values.pop("name", None) or _name_of(context.path)
        if not re.fullmatch(NAME_PATTERN, name):
            raise SettingsError(f"component {name}: this name cannot be used: {NAME_RULE}")
        if empty := still_to_set(values):
            raise SettingsError(f"component {name}: set {listed(empty, 'and')} in its defs.yaml")
        settings = settings_of(values, _folder_of(context.path), f"component {name}")
        if settings.library is None:
            raise SettingsError(f"component {name}: library.path is missing: name the folder of documents")
        return cls(name, settings)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The assets, jobs, sensors and resources. Opens nothing."""
        slot = DeepSlot(lambda: self.settings, schema=f"offload_{self.name}")
        names = names_of(stage_graph(self.settings), [self.name], self.name, launched_by=SENSOR)
        return library_definitions(self.settings, slot, names, f"{self.name}_documents")


def _name_of(path: Path) -> str:
    """The name of the component's folder, as a name for SQL and Dagster."""
    name = re.sub(r"[^a-z0-9_]+", "_", _folder_of(path).name.lower()).strip("_")[:40]
    return name if re.fullmatch(NAME_PATTERN, name) else f"library_{name}"[:40]


def _folder_of(path: Path) -> Path:
    return path.parent if path.is_file() else path
