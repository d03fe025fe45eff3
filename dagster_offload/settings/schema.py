"""The JSON Schema of the pipeline file, from which editors complete and explain keys."""

from typing import Any

from dagster_offload.settings.model import Settings


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). Every key has a description."""
    schema = Settings.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "dagster-offload pipeline file",
        "description": "offload.yaml: the library, the slots and the stages of one home.",
    }
