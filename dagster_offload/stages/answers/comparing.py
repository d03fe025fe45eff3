"""Compare answers with expected ones, field by field. Pure."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldScore:
    """How many of the expected values of a field were right."""

    field: str
    right: int
    expected: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.right / self.expected


def score(
    expected: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Mapping[str, Any] | None]
) -> tuple[list[FieldScore], list[tuple[str, str]]]:
    """Return the score of each field, and the (document, field) pairs that are wrong.

    Both arguments map documents to records. Only expected fields count; a document without an answer is wrong in each.
    Texts are compared without case and white space, numbers by value.
    """
    right: dict[str, list[bool]] = {}
    wrong = []
    for document, fields in expected.items():
        answer = answers.get(document) or {}
        for field, value in fields.items():
            is_right = _plain(answer.get(field)) == _plain(value)
            right.setdefault(field, []).append(is_right)
            if not is_right:
                wrong.append((document, field))
    return [FieldScore(field, sum(results), len(results)) for field, results in right.items()], wrong


def total(scores: Sequence[FieldScore]) -> float:
    """The share of right values over all fields; 1 if nothing was expected."""
    expected = sum(each.expected for each in scores)
    return sum(each.right for each in scores) / expected if expected else 1.0


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).casefold().split())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value]
