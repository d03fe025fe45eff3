"""The fields of an answer, as a person writes them: `amount: number`, `due: date?`, `items: [{what: string}]`.

`read_answer` turns the written form into `Field`s, which `answer_model.py` turns into a pydantic model and a JSON schema.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.text.lenient_json import storable_text
from dagster_offload.text.normal_form import in_nfc
from dagster_offload.text.suggestions import suggestion

TYPES = ("string", "number", "integer", "boolean", "date", "datetime")

MOST_BYTES = 63  # of a name: a field is a column of a view, and Postgres cuts longer names
OPERATORS = frozenset("=<>!~")  # of `records --where FIELD=VALUE`
MOST_FIELDS = 100
MOST_OF_A_LIMIT = 10**9  # of `max_length` and `max_items`
DEEPEST = 5  # objects inside objects; grammars of servers grow with each level

_LIMITS: dict[str, type | tuple[type, ...]] = {
    "min": (int, float),
    "max": (int, float),
    "pattern": str,
    "max_length": int,
    "max_items": int,
}
_DETAILS = frozenset({"type", "enum", "description", "optional", "canonical", *_LIMITS})


@dataclass(frozen=True)
class Field:
    """One field of an answer.

    `type` is one of `TYPES`, `enum`, `object` or `list`. `fields` are those of an object; `entry` is a list's element.
    An optional field may be null. A list is never null: it may be empty.
    """

    name: str
    type: str
    description: str = ""
    is_optional: bool = False
    values: tuple[str, ...] = ()  # of an enum
    fields: "tuple[Field, ...]" = ()
    entry: "Field | None" = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    max_length: int | None = None
    max_items: int | None = None
    is_canonical: bool = False  # the model is offered the values that other documents have

    @property
    def column_type(self) -> str:
        """The type of the field as a column: string, number, integer, boolean, date, datetime or json."""
        return {"enum": "string", "list": "json", "object": "json"}.get(self.type, self.type)

    @property
    def form(self) -> str:
        """What the field is, in one line for people: `date?`, `number (min 0)`, `[{what: string, price: number}]`."""
        kind = self.type
        if self.type == "enum":
            kind = f"enum [{', '.join(self.values)}]"
        elif self.type == "object":
            kind = f"{{{', '.join(f'{field.name}: {field.form}' for field in self.fields)}}}"
        elif self.entry is not None:
            kind = f"[{self.entry.form}]"
        limits = {
            "min": self.minimum,
            "max": self.maximum,
            "pattern": self.pattern,
            "max_length": self.max_length,
            "max_items": self.max_items,
            "canonical": self.is_canonical or None,
            "description": self.description or None,
        }
        details = ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None)
        return kind + ("?" if self.is_optional else "") + (f" ({details})" if details else "")


class FieldError(ValueError):
    """A field that is written wrongly. `path` leads to it: ("items", "price"). `others` are further ones of the answer."""

    def __init__(self, path: tuple[str, ...], message: str, others: "Sequence[FieldError]" = ()) -> None:
        super().__init__(message)
        self.path, self.others = path, tuple(others)

    @property
    def all(self) -> "tuple[FieldError, ...]":
        """Every field that is written wrongly, in the order of the answer."""
        return (self, *self.others)


def read_answer(written: Any) -> tuple[Field, ...]:
    """Return the fields of an answer. Raises `FieldError`, which names the field and the nearest right word."""
    return _fields(written, (), depth=1)


def _fields(written: Any, path: tuple[str, ...], depth: int) -> tuple[Field, ...]:
    if not isinstance(written, Mapping) or not written:
        raise FieldError(path, "must be a mapping of field names to types, such as {payee: string, due: date?}")
    if len(written) > MOST_FIELDS:
        raise FieldError(path, f"has {len(written)} fields; the limit is {MOST_FIELDS}")
    if depth > DEEPEST:
        raise FieldError(path, f"is nested more than {DEEPEST} levels deep")
    found, wrong = list[Field](), list[FieldError]()
    for name, form in written.items():
        try:
            named = _name(name, path, [field.name for field in found])
            found.append(_field(named, form, (*path, str(name)), depth))
        except FieldError as error:
            wrong += error.all
    if wrong:
        raise FieldError(wrong[0].path, str(wrong[0]), wrong[1:])
    return tuple(found)


def _name(name: Any, path: tuple[str, ...], earlier: Sequence[str]) -> str:
    """The name in Unicode NFC, the form in which models and people write it. A Mac gives the names of its files in another.

    `earlier`: the names of the fields before it.
    """
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise FieldError((*path, str(name)), "a field's name must be text without blanks around it")
    if not name.isprintable():
        raise FieldError((*path, name), "a field's name must not contain control characters")
    if found := OPERATORS & set(name):
        raise FieldError(
            (*path, name), f"a field's name must not contain {min(found)!r}: `--where` reads it as an operator"
        )
    normal: str = in_nfc(name)
    if normal in earlier:
        raise FieldError((*path, name), "is here twice, in two forms of Unicode: remove one of them")
    if len(normal.encode()) > MOST_BYTES:
        raise FieldError(
            (*path, name), f"a field's name has at most {MOST_BYTES} bytes; this one has {len(normal.encode())}"
        )
    return normal


def _field(name: str, form: Any, path: tuple[str, ...], depth: int) -> Field:
    # Also lists in lists and types of types, which have no end if an alias of the file holds itself.
    if depth > 2 * DEEPEST or len(path) > 4 * DEEPEST:
        raise FieldError(path, f"is nested more than {DEEPEST} levels deep")
    if isinstance(form, str):
        return _simple(name, form, path)
    if isinstance(form, list):
        return _list(name, form, path, depth)
    if not isinstance(form, Mapping):
        raise FieldError(path, f"must be a type ({', '.join(TYPES)}), a list of one type, or a mapping")
    if "fields" in form:
        return _described_object(name, form, path, depth)
    if "type" in form or "enum" in form:
        return _described(name, form, path, depth)
    return Field(name, "object", fields=_fields(form, path, depth + 1))


def _simple(name: str, form: str, path: tuple[str, ...]) -> Field:
    kind = form.strip()
    is_optional = kind.endswith("?")
    kind = kind.removesuffix("?").strip()
    if kind not in TYPES:
        raise FieldError(path, f"{form!r} is not a type{suggestion(kind, TYPES)}; the types are {', '.join(TYPES)}")
    return Field(name, kind, is_optional=is_optional)


def _list(name: str, form: list[Any], path: tuple[str, ...], depth: int) -> Field:
    if len(form) != 1:
        meant = suggestion(path[-1], _DETAILS) if path else ""  # `enmu: [EUR, KRW]`
        raise FieldError(
            path, f"a list has exactly one type between its brackets: [string] or [{{what: string}}]{meant}"
        )
    return Field(name, "list", entry=_field(name, form[0], path, depth + 1))


def _described_object(name: str, form: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Field:
    _check_details(form, frozenset({"fields", "description", "optional"}), path)
    return Field(
        name,
        "object",
        description=_text(form.get("description", ""), (*path, "description")),
        is_optional=_truth(form.get("optional", False), (*path, "optional")),
        fields=_fields(form["fields"], path, depth + 1),
    )


def _described(name: str, form: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Field:
    _check_details(form, _DETAILS, path)
    if "enum" in form:
        if form.get("type", "string") != "string":
            raise FieldError((*path, "type"), "an enum has no other type than string")
        base = Field(name, "enum", values=_values(form["enum"], (*path, "enum")))
    else:
        base = _field(name, form["type"], (*path, "type"), depth)
    limits = {key: _limit(form[key], key, (*path, key)) for key in _LIMITS if key in form}
    field = Field(
        name,
        base.type,
        description=_text(form.get("description", ""), (*path, "description")),
        is_optional=base.is_optional or _truth(form.get("optional", False), (*path, "optional")),
        values=base.values,
        fields=base.fields,
        entry=base.entry,
        minimum=limits.get("min"),
        maximum=limits.get("max"),
        pattern=limits.get("pattern"),
        max_length=limits.get("max_length"),
        max_items=limits.get("max_items"),
        is_canonical=_truth(form.get("canonical", False), (*path, "canonical")),
    )
    _check_limits(field, path)
    if field.is_canonical and depth > 1:
        raise FieldError(
            (*path, "canonical"), "canonical is only for fields of the answer itself, not of lists and objects"
        )
    return field


def _check_details(form: Mapping[str, Any], known: frozenset[str], path: tuple[str, ...]) -> None:
    for key in form:
        if key not in known:
            hint = " (a field called `type`, `enum` or `fields` of an object is written below `fields:`)"
            problem = f"{key!r} is not a detail of a field{suggestion(str(key), sorted(known)) or hint}"
            raise FieldError((*path, str(key)), problem)


def _check_limits(field: Field, path: tuple[str, ...]) -> None:
    is_number = field.type in ("number", "integer")
    for name, value, is_possible, kinds in (
        ("min", field.minimum, is_number, "numbers"),
        ("max", field.maximum, is_number, "numbers"),
        ("pattern", field.pattern, field.type == "string", "strings"),
        ("max_length", field.max_length, field.type == "string", "strings"),
        ("max_items", field.max_items, field.type == "list", "lists"),
        ("canonical", field.is_canonical or None, field.type == "string", "strings"),
    ):
        if value is not None and not is_possible:
            raise FieldError((*path, name), f"{name} is only for {kinds}; this field is of type {field.type}")
    if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
        raise FieldError((*path, "max"), f"max ({field.maximum:g}) is below min ({field.minimum:g})")


def _values(written: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(written, list) or not written or not all(isinstance(value, str) and value for value in written):
        raise FieldError(path, "must be a list of texts, such as [EUR, KRW]; put quotes around `yes`, `no` and numbers")
    values: tuple[str, ...] = tuple(in_nfc(written))
    if len(set(values)) < len(values):
        raise FieldError(path, "lists a value twice")
    if any(storable_text(value) != value for value in values):
        raise FieldError(path, "has a value with a character that no answer can have")
    return values


def _limit(written: Any, key: str, path: tuple[str, ...]) -> Any:
    wanted = _LIMITS[key]
    if isinstance(written, bool) or not isinstance(written, wanted):
        raise FieldError(path, f"must be {'a text' if wanted is str else 'a number'}")
    if isinstance(written, str):
        if storable_text(written) != written:
            raise FieldError(path, "has a character that no answer can have")
        try:
            re.compile(written)
        except (re.error, OverflowError, RecursionError) as error:
            raise FieldError(path, f"is not a regular expression: {error}") from None
    elif isinstance(written, (int, float)):
        _check_number(written, key, path)
    return written


def _check_number(written: float, key: str, path: tuple[str, ...]) -> None:
    if key in ("max_length", "max_items"):
        if written < 1:
            raise FieldError(path, "must be at least 1")
        if written > MOST_OF_A_LIMIT:
            raise FieldError(path, f"must be at most {MOST_OF_A_LIMIT:,}")
    elif not abs(written) <= sys.float_info.max:  # also `.nan`; a whole number may be too large for `math.isfinite`
        raise FieldError(path, "must be a finite number")


def _text(written: Any, path: tuple[str, ...]) -> str:
    if not isinstance(written, str):
        raise FieldError(path, "must be a text")
    return " ".join(storable_text(written).split())


def _truth(written: Any, path: tuple[str, ...]) -> bool:
    if not isinstance(written, bool):
        raise FieldError(path, "must be true or false")
    return written
