"""Our assets as inputs of other assets: `ins={"summary": AssetIn()}` gets texts and records from the ledger."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import BaseModel, ValidationError

from dagster_offload.defs.names import Names
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.defs.shown.overview import RECORDS, overview_keys
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.reports import texts
from dagster_offload.ledger.reports.records import values_of
from dagster_offload.records.reading import Query, stream
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.validation import kinds_of_faults


class LedgerInputs(dg.IOManager):
    """Reads the text or the record of each document that an input's partitions name.

    If the run's partition is a document, an input is the value itself: a `str` for `extracted_text`, a `dict` for the other
    stages, or the pydantic model that annotates the input. In all other runs, and if the annotation is `dict[str, Model]`, it
    is a `dict` of such values, by document, without the documents that have none.
    `records` is always such a `dict`, of the whole record of every document.
    """

    def __init__(self, slot: DeepSlot, names: Names) -> None:
        self._slot = slot
        self._stages = {key: stage for stage, key in names.keys.items()}
        self._records = overview_keys(names.keys)[RECORDS]

    def handle_output(self, context: dg.OutputContext, _: object) -> None:
        """Refuse: the stages record their results in the ledger themselves."""
        raise NotImplementedError(f"{context.asset_key.to_user_string()} is recorded by its own step")

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the input. Raises `Failure` if the asset has no value, its only document has none yet, or one does not fit."""
        stage = self._stages.get(context.asset_key)
        if stage is None and context.asset_key != self._records:
            raise dg.Failure(f"{context.asset_key.to_user_string()} has plots and no value: use it in `deps`")
        documents = [] if stage is None else context.asset_partition_keys
        with self._slot.ledger() as ledger:
            is_grouped = ledger.run(assigning.in_force).rule.is_grouped
            if is_grouped:
                documents = ledger.run(assigning.documents_of, documents).documents
            found = self._all_records(ledger) if stage is None else ledger.run(_read, stage, documents)
        annotated = context.dagster_type.typing_type
        model = _model_of(annotated)
        name = context.asset_key.to_user_string()
        values = found if model is None else {key: _typed(model, value, name, key) for key, value in found.items()}
        is_by_document = model is not None and annotated is not model
        if stage is None or is_grouped or is_by_document or not context.has_partition_key:
            return values
        document = context.partition_key
        if documents != [document]:  # the asset's own partitions are not documents
            return values
        if document not in values:
            raise dg.Failure(f"{document} has no {context.asset_key.path[-1]} yet: its partition shows why")
        return values[document]

    def _all_records(self, ledger: Ledger) -> dict[str, Any]:
        return {record["document"]: record for record in stream(self._slot.settings(), ledger, Query())}


def _read(cur: Cursor, stage: str, documents: Sequence[str]) -> dict[str, Any]:
    return texts.texts_of(cur, documents) if stage == EXTRACT else values_of(cur, stage, documents)


def _typed(model: type[BaseModel], value: Any, asset: str, document: str) -> BaseModel:
    """The value as the model. Raises `Failure` that names the fields: pydantic's own error quotes the document."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = kinds_of_faults(error.errors(include_input=False, include_url=False))
    raise dg.Failure(f"{asset} of {document} does not fit the model {model.__name__}: {faults}")


def _model_of(annotated: Any) -> type[BaseModel] | None:
    """The pydantic model of an annotation `Model` or `dict[str, Model]`; None if there is none."""
    wanted = annotated.__args__[-1] if getattr(annotated, "__origin__", None) is dict else annotated
    return wanted if isinstance(wanted, type) and issubclass(wanted, BaseModel) else None
