"""The attributes of the component: the keys of the pipeline file, and a name.

A mistake is raised with its place, so Dagster shows the line.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails

from dagster_offload.settings import Settings
from dagster_offload.settings.faults import shown_value, unknown_key
from dagster_offload.settings.leaves import keys_below
from dagster_offload.settings.sections.unset import without_unset
from dagster_offload.settings.sources import REFERENCE
from dagster_offload.text.validation import path_of, setting_in_words

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
NAME_RULE = "use at most 40 lower-case letters, digits and _, and begin with a letter"
TEMPLATE = "{{"
# What only `dagster-offload up` does, and what a project has in its place.
ONLY_UP = {
    "on_record": "write an asset that loads the records",
    "notify": "use the alerts or sensors of your project",
    "backup": "make backups of the Postgres that holds the ledger",
    "celery": "set the executor of your project",
    "ui": "use the web server of your project",
    "prefork": "use the run launcher of your project",
}

# The keys that `dg scaffold` leaves empty.
TO_SET = (("library", "path"), ("slots", "deep", "url"), ("slots", "deep", "model"))

Path = tuple[str | int, ...]


class Attributes(Settings):
    """The keys of the pipeline file, and a name."""

    name: str | None = Field(
        default=None,
        pattern=NAME_PATTERN,
        description="prefix of the assets, jobs and sensors, and of the ledger's schema; unset = the component's folder",
    )
    _written: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def written(self) -> Mapping[str, Any]:
        """The attributes as they are written. Their templates, such as `{{ env('KEY') }}`, are not resolved."""
        return self._written

    @model_validator(mode="wrap")
    @classmethod
    def _validated(cls, value: Any, handler: ModelWrapValidatorHandler["Attributes"]) -> "Attributes":
        """Keep what is written, and name each mistake. What `load` has yet to resolve or read is validated there."""
        if not isinstance(value, Mapping):
            return handler(value)
        found = [_error(path, message) for path, message in _refused(value)]
        try:
            attributes = handler({key: each for key, each in value.items() if key not in ONLY_UP})
        except ValidationError as error:
            faults = without_unset(error.errors(include_url=False))
            found += [_error_of(fault, value) for fault in faults if not _is_checked_later(fault, value)]
            attributes = cls.model_construct()
        if found:
            raise ValidationError.from_exception_data("OffloadPipeline", found)
        attributes._written = value
        return attributes

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        for key in ONLY_UP:
            handler.resolve_ref_schema(schema)["properties"].pop(key, None)
        return schema


def still_to_set(values: Mapping[str, Any]) -> list[str]:
    """The keys of the scaffold that are still empty."""
    empty = [path for path, each in _walk(values) if each is None]
    return [".".join(path) for path in TO_SET if path in empty]


def _refused(value: Any) -> Iterator[tuple[Path, str]]:
    """What is right in a pipeline file and has no effect in a component."""
    for path, each in _walk(value):
        if len(path) == 1 and path[0] in ONLY_UP:
            yield path, f"{path[0]} is for `dagster-offload up`: in a project, {ONLY_UP[str(path[0])]}"
        if path[:1] != ("stages",) and isinstance(each, str):
            references = [found for found in REFERENCE.finditer(each) if found[2] is not None]
            for found in references:
                yield path, f"{found[0]} is not replaced in a component: write {{{{ env('{found[2]}') }}}}"
            # `${MY-KEY}` names no variable, and would be sent as the key. Elsewhere, such as in a command, a shell may read it.
            if path[-1] == "api_key" and "${" in each and not references:
                yield path, "'${' is not replaced in a component: write {{ env('NAME') }}, with the name of a variable"


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, each in entries:
        yield (*path, key), each
        yield from _walk(each, (*path, key))


def _is_checked_later(fault: Mapping[str, Any], value: Any) -> bool:
    """Whether the fault is that of a template, or of the name of a schema's file."""
    match path_of(fault):
        case ("stages", stage, "schema"):
            return isinstance(value["stages"][stage].get("schema"), str)
        case _:
            return isinstance(fault["input"], str) and TEMPLATE in fault["input"]


def _error_of(fault: Mapping[str, Any], value: Any) -> InitErrorDetails:
    path = path_of(fault)
    if fault["type"] == "extra_forbidden":
        known = [key for key in keys_below(tuple(map(str, path[:-1]))) if key not in ONLY_UP]
        return _error(path, unknown_key(path, [*known, "name"] if len(path) == 1 else known))
    place = path if fault["type"] == "missing" else _place_in(value, path)
    is_harmless = shown_value(place, fault["input"]) is not None
    message = NAME_RULE if path == ("name",) and fault["type"] == "string_pattern_mismatch" else setting_in_words(fault)
    return _error(place, message, fault["input"] if is_harmless else "...")


def _error(path: Path, message: str, shown: Any = "...") -> InitErrorDetails:
    # Dagster builds these errors anew, which works only with pydantic's own types. The value is shown, so it must be no secret.
    return {"type": "value_error", "loc": path, "input": shown, "ctx": {"error": ValueError(message)}}


def _place_in(value: Any, path: Path) -> Path:
    """The part of the path that exists. Pydantic appends the name of a type if several types are accepted."""
    for length, key in enumerate(path):
        try:
            value = value[key]
        except (TypeError, KeyError, IndexError):
            return path[:length]
    return path
