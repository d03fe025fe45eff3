"""Cleans every field of an answer: removes harmful characters and limits lengths.

A router may answer anything. The limits are far above what the stages ask for; longer values are cut.
"""

from typing import Annotated, Any

from pydantic import AfterValidator

from dagster_offload.text.plain_text import cleaned, shortened

LONGEST_TITLE = 300  # characters
LONGEST_SUMMARY = 10_000
LONGEST_POINT = 1_000
MOST_POINTS = 20


def cleaned_fields(value: Any) -> Any:
    """Return an answer's JSON with every string value cleaned."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [cleaned_fields(item) for item in value]
    if isinstance(value, dict):
        return {name: cleaned_fields(item) for name, item in value.items()}
    return value


def _title(text: str | None) -> str | None:
    return None if text is None else shortened(" ".join(text.split()), LONGEST_TITLE)


def _summary(text: str) -> str:
    return shortened(text, LONGEST_SUMMARY)


def _points(points: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(shortened(point, LONGEST_POINT) for point in points[:MOST_POINTS])


Title = Annotated[str | None, AfterValidator(_title)]
BoundedSummary = Annotated[str, AfterValidator(_summary)]
BoundedPoints = AfterValidator(_points)
