"""What a model writes as JSON is read where it certainly means one thing; anything else ends in `ValueError` or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.text.lenient_json import (
    located_objects,
    objects_in_prose,
    read_json,
    read_written_json,
    without_trailing_commas,
)

TEXTS = st.text(st.sampled_from('aé한 ",:{}[]\\\n\t1'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    written = json.dumps(value)
    assert read_json(written) == read_written_json(written) == value
    assert without_trailing_commas(written) == written


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_trailing_commas_and_bare_line_breaks_cost_nothing(value: dict[str, Any]) -> None:
    pretty = json.dumps(value, indent=1, ensure_ascii=False)
    assert read_written_json(pretty[:-1].rstrip() + ",\n}") == value
    assert read_written_json(pretty.replace("\\n", "\n").replace("\\t", "\t")) is not None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('{"a": "one\ntwo\tthree"}', {"a": "one\ntwo\tthree"}),
        ('{"a": [1, 2,],}', {"a": [1, 2]}),
        ('{"a": "b,}", "c": ",]",}', {"a": "b,}", "c": ",]"}),
        ('{"a\\u0000": "b\\ud83d"}', {"a": "b"}),
    ],
)
def test_what_models_write_is_read(written: str, value: object) -> None:
    assert read_written_json(written) == value


@pytest.mark.parametrize("written", ["", "{", '{"a": 1,,}', "{'a': 1}", "[" * 100_000, '{"a":' * 100_000, '{"a": "b'])
def test_what_means_nothing_certain_is_a_value_error(written: str) -> None:
    with pytest.raises(ValueError):
        read_written_json(written)


@settings(deadline=None)
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=5), st.text(st.sampled_from('a \n",:[]')))
def test_every_object_in_prose_is_found_where_it_stands(objects: list[dict[str, Any]], prose: str) -> None:
    text = prose + prose.join(json.dumps(value) for value in objects)
    assert list(objects_in_prose(text)) == objects
    assert all(json.loads(text[place.start : place.stop]) == value for place, value in located_objects(text))


@pytest.mark.parametrize("text", ["{" * 5_000_000, '{"a":' * 1_000_000, '{"a"' * 1_000_000, '{"' * 2_000_000])
def test_five_megabytes_made_to_be_slow_are_searched_in_seconds(text: str) -> None:
    """It takes days, and the test times out, where each brace is followed to the end."""
    assert list(located_objects(text)) == []
