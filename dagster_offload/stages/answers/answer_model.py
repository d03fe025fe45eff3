"""From the fields of an answer: the pydantic model that validates it, the JSON schema and the words that ask for it. Pure.

A schema keeps to what servers' grammars support. Bounds and patterns that they do not support are validated here, and a
value that breaks them gets one repair question.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from dagster_offload.stage_spec.fields import Field as Spec
from dagster_offload.stages.answers.parsing import StageAnswer
from dagster_offload.stages.answers.written_numbers import written_number
from dagster_offload.text.plain_text import shortened

LONGEST_TEXT = 10_000  # characters of a string without `max_length`; a longer one is cut
MOST_ENTRIES = 1_000  # of a list without `max_items`
INTEGERS = (-(2**63), 2**63 - 1)  # those that a column of type integer holds

_NULL_WORDS = frozenset({"", "null", "none", "n/a", "na", "unknown", "not specified", "-"})
# As a text, `NA` may be a code: of Namibia, of North America.
_NULL_TEXTS = _NULL_WORDS - {"na"}
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DATETIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?$"


class _Object(BaseModel):
    """Base class of objects inside an answer."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True, serialize_by_alias=True)


def answer_model(fields: Sequence[Spec], *, is_part: bool = False) -> type[StageAnswer]:
    """Return the model of an answer. In the answer to a part of a long document every field may be missing.

    A value that is there must be right, as in the answer to a whole document: else a list would lose all its entries for
    one that is wrong.
    """
    model = create_model("Answer", __base__=StageAnswer, **_definitions(fields, is_part=is_part))
    model.never_dropped = frozenset(field.name for field in fields if not may_be_null(field))
    model.tells_what_was_dropped = True
    return model


def _definitions(fields: Sequence[Spec], *, is_part: bool) -> dict[str, Any]:
    # Neutral names with the person's name as alias: a field may be called `json`, `class` or 금액.
    return {f"field_{index}": _definition(field, is_part=is_part) for index, field in enumerate(fields)}


def _definition(field: Spec, *, is_part: bool) -> tuple[Any, Any]:
    kind = _kind(field)
    if field.type == "list":
        default = () if is_part else ...
        return kind, Field(default, alias=field.name)
    if may_be_null(field) or is_part:
        return Annotated[kind | None, BeforeValidator(_null_words(field))], Field(None, alias=field.name)
    return kind, Field(alias=field.name)


def may_be_null(field: Spec) -> bool:
    """Whether null is a right answer. A date may always be missing: a model must not have to invent one."""
    return field.type != "list" and (field.is_optional or field.type in ("date", "datetime"))


def most_entries(field: Spec) -> int:
    """How many entries a list may have."""
    return MOST_ENTRIES if field.max_items is None else field.max_items


def _kind(field: Spec) -> Any:
    match field.type:
        case "string":
            return _text(field)
        case "number":
            return _bounded(Annotated[float, Field(allow_inf_nan=False)], _number, field)
        case "integer":
            return _bounded(Annotated[int, Field(ge=INTEGERS[0], le=INTEGERS[1])], _number, field)
        case "boolean":
            return bool
        case "date":
            return Annotated[date, BeforeValidator(_iso(_date, 10))]
        case "datetime":
            return Annotated[datetime, BeforeValidator(_iso(datetime.fromisoformat, 16))]
        case "enum":
            return Annotated[Literal[field.values], BeforeValidator(_one_of(field.values))]
        case "list":
            assert field.entry is not None  # noqa: S101 - for the type checker: `fields._list` sets it
            kind: Any = tuple.__class_getitem__((_kind(field.entry), ...))
            entries = Annotated[kind, Field(max_length=most_entries(field))]
            return Annotated[entries, BeforeValidator(_stated(field.entry))]
    return create_model("Object", __base__=_Object, **_definitions(field.fields, is_part=False))


def _text(field: Spec) -> Any:
    if field.max_length is None:
        text: Any = Annotated[str, Field(min_length=1), AfterValidator(lambda value: shortened(value, LONGEST_TEXT))]
    else:
        text = Annotated[str, Field(min_length=1, max_length=field.max_length)]
    if field.pattern is None:
        return text
    return Annotated[text, AfterValidator(_matching(field.pattern))]


def _bounded(kind: Any, read: Callable[[Any], Any], field: Spec) -> Any:
    least, most = _bounds(field)
    return Annotated[Annotated[kind, Field(ge=least, le=most)], BeforeValidator(read)]


def _bounds(field: Spec) -> tuple[float | None, float | None]:
    """The least and the greatest value of a number. Those of a whole number are whole."""
    least, most = field.minimum, field.maximum
    if field.type != "integer":
        return least, most
    return None if least is None else math.ceil(least), None if most is None else math.floor(most)


def _null_words(field: Spec) -> Callable[[Any], Any]:
    """Replace a word that stands for null. A word that is a value of the field stands for that value."""
    words = _NULL_TEXTS if field.type == "string" else _NULL_WORDS
    values = {_folded(value) for value in field.values}

    def convert(value: Any) -> Any:
        is_null = isinstance(value, str) and value.strip().casefold() in words and _folded(value) not in values
        return None if is_null else value

    return convert


def _stated(entry: Spec) -> Callable[[Any], Any]:
    """Replace null by an empty list, and leave out the entries that are null: the question allows null for them."""
    without_null_words = _null_words(entry)

    def convert(value: Any) -> Any:
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)) or not may_be_null(entry):
            return value
        return [each for each in value if without_null_words(each) is not None]

    return convert


def _matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.search(value) is None:
            raise ValueError(f"must match the pattern {pattern}")
        return value

    return check


def _number(value: Any) -> Any:
    """Convert a number that is written as people write it: `1,234.50`, `1.234,50 EUR`, `₩45,000`."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports a ValueError
    if not isinstance(value, str):
        return value
    number = written_number(value)
    if number is None:
        raise ValueError("must be a number without text or another number")
    return number


def _iso(read: Callable[[str], Any], shortest: int) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, str) or len(value.strip()) < shortest:
            raise ValueError("must be an ISO 8601 date such as 2025-03-04")
        try:
            return read(value.strip())
        except ValueError:
            raise ValueError("must be an ISO 8601 date that exists, such as 2025-03-04") from None

    return convert


def _date(written: str) -> date:
    # A model may give a day as its midnight.
    return datetime.fromisoformat(written).date() if written[10:11] in ("T", " ") else date.fromisoformat(written)


def _one_of(values: Sequence[str]) -> Callable[[Any], Any]:
    declared = {_folded(value): value for value in reversed(values)}

    def convert(value: Any) -> Any:
        return declared.get(_folded(value), value) if isinstance(value, str) and value not in values else value

    return convert


def _folded(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip(" .\"'").casefold()


def json_schema(fields: Sequence[Spec]) -> dict[str, Any]:
    """Return the JSON schema of an answer, for servers that enforce one."""
    return {
        "type": "object",
        "required": [field.name for field in fields],
        "additionalProperties": False,
        "properties": {field.name: _nullable(field, _schema(field)) for field in fields},
    }


def _nullable(field: Spec, schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]} if may_be_null(field) else schema


def _schema(field: Spec) -> dict[str, Any]:
    match field.type:
        case "enum":
            return {"enum": list(field.values)}
        case "date":
            return {"type": "string", "pattern": _DATE}
        case "datetime":
            return {"type": "string", "pattern": _DATETIME}
        case "integer":
            # A grammar enforces the range of whole numbers only.
            least, most = _bounds(field)
            bounds = {"minimum": least, "maximum": most}
            return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}
        case "list":
            assert field.entry is not None  # noqa: S101 - for the type checker
            limit = {} if field.max_items is None else {"maxItems": field.max_items}
            return {"type": "array", "items": _schema(field.entry), **limit}
        case "object":
            return json_schema(field.fields)
    return {"type": field.type}


def in_words(fields: Sequence[Spec]) -> str:
    """Return the form of an answer in words: `{"payee": text, "due": a date as YYYY-MM-DD, or null}`."""
    return "{" + ", ".join(f'"{field.name}": {_words(field)}' for field in fields) + "}"


def _words(field: Spec) -> str:
    words = _type_in_words(field)
    words += f" ({field.description})" if field.description else ""
    return f"{words}, or null" if may_be_null(field) else words


def _type_in_words(field: Spec) -> str:
    match field.type:
        case "enum":
            return "one of " + ", ".join(f'"{value}"' for value in field.values)
        case "object":
            return in_words(field.fields)
        case "list":
            assert field.entry is not None  # noqa: S101 - for the type checker
            most = "" if field.max_items is None else f" of at most {field.max_items} entries"
            return f"a list{most}, each entry {_words(field.entry)}"
        case "number" | "integer":
            return ("a whole number" if field.type == "integer" else "a number") + _range_in_words(field)
        case "string":
            limits = "" if field.max_length is None else f" of at most {field.max_length} characters"
            return f"text{limits}" + ("" if field.pattern is None else f" that matches {field.pattern}")
        case "boolean":
            return "true or false"
        case "datetime":
            return "a date and time as YYYY-MM-DDThh:mm"
    return "a date as YYYY-MM-DD"


def _range_in_words(field: Spec) -> str:
    if field.minimum is not None and field.maximum is not None:
        return f" from {field.minimum:g} to {field.maximum:g}"
    if field.minimum is not None:
        return f" of at least {field.minimum:g}"
    return "" if field.maximum is None else f" of at most {field.maximum:g}"
