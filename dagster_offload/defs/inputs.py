"""Our assets as inputs of other assets: `ins={"summary": AssetIn()}` gets texts and records from the ledger."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import BaseModel

from dagster_offload.defs.names import Names
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.reports import texts
from dagster_offload.ledger.reports.records import values_of
from dagster_offload.stages.graph import EXTRACT


class LedgerInputs(dg.IOManager):
    """Reads the text or the record of each document that an input's partitions name.

    In a run over one partition, an input is the value itself: a `str` for `extracted_text`, a `dict` for all others, or the
    pydantic model that annotates the input. Otherwise it is a `dict` of such values, by document, without the documents
    that have none.
    """

    def __init__(self, slot: DeepSlot, names: Names) -> None:
        self._slot = slot
        self._stages = {key: stage for stage, key in names.keys.items()}

    def handle_output(self, context: dg.OutputContext, _: object) -> None:
        """Refuse: the stages record their results in the ledger themselves."""
        raise NotImplementedError(f"{context.asset_key.to_user_string()} is recorded by its own step")

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the input. Raises `Failure` if its only document has no value yet."""
        stage, documents = self._stages[context.asset_key], context.asset_partition_keys
        with self._slot.ledger() as ledger:
            found: dict[str, Any] = ledger.run(_read, stage, documents)
        model = _model_of(context.dagster_type.typing_type)
        values = found if model is None else {key: model.model_validate(value) for key, value in found.items()}
        if not context.has_partition_key:
            return values
        (document,) = documents
        if document not in values:
            raise dg.Failure(f"{document} has no {context.asset_key.path[-1]} yet: its partition shows why")
        return values[document]


def _read(cur: Cursor, stage: str, documents: Sequence[str]) -> dict[str, Any]:
    return texts.texts_of(cur, documents) if stage == EXTRACT else values_of(cur, stage, documents)


def _model_of(annotated: Any) -> type[BaseModel] | None:
    """The pydantic model of an annotation `Model` or `dict[str, Model]`; None if there is none."""
    wanted = annotated.__args__[-1] if getattr(annotated, "__origin__", None) is dict else annotated
    return wanted if isinstance(wanted, type) and issubclass(wanted, BaseModel) else None
