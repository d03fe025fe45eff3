"""JSON that a model writes is read if its meaning is certain. Anything else gives a `ValueError` or no object."""

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
def test_valid_json_is_read_unchanged(value: Any) -> None:
    written = json.dumps(value)
    assert read_json(written) == read_written_json(written) == value
    assert without_trailing_commas(written) == written


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_trailing_commas_and_bare_line_breaks_are_accepted(value: dict[str, Any]) -> None:
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
        ('{"a": 1%s}' % ("0" * 299), {"a": 10**299}),
        ('{"a": -%s}' % ("9" * 5_000), {"a": float("-inf")}),
    ],
)
def test_json_as_models_write_it_is_read(written: str, value: object) -> None:
    assert read_written_json(written) == value


@pytest.mark.parametrize("levels", [450, 980, 5_000])
def test_json_that_is_nested_too_deeply_is_refused_whatever_the_limit_of_python_is(levels: int) -> None:
    for written in ("[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels):
        for read in (read_json, read_written_json):
            with pytest.raises(ValueError, match="nested too deeply"):
                read(written)


def test_json_of_400_levels_is_read() -> None:
    written = "[" * 400 + "]" * 400
    assert json.dumps(read_json(written)) == json.dumps(read_written_json(written)) == written


UNSTORABLE = st.text(st.sampled_from("a한\x00\udc00\udfff"), max_size=6)  # two surrogates that are no pair


@given(UNSTORABLE, st.booleans())
def test_what_is_read_can_be_stored_in_whatever_form_it_is_written(text: str, is_escaped: bool) -> None:
    written = json.dumps({text: [text]}, ensure_ascii=is_escaped)
    storable = "".join(character for character in text if character in "a한")
    wanted = {storable: [storable]}
    assert read_written_json(written) == wanted
    if is_escaped or "\x00" not in text:
        assert read_json(written) == read_json(written.encode("utf-8", "surrogatepass")) == wanted
        assert read_json(written.encode("utf-16", "surrogatepass")) == wanted


@pytest.mark.parametrize("written", ["", "{", '{"a": 1,,}', "{'a': 1}", "[" * 100_000, '{"a":' * 100_000, '{"a": "b'])
def test_ambiguous_json_is_a_value_error(written: str) -> None:
    with pytest.raises(ValueError):
        read_written_json(written)


@settings(deadline=None)
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=5), st.text(st.sampled_from('a \n",:[]')))
def test_every_object_in_prose_is_found_with_its_position(objects: list[dict[str, Any]], prose: str) -> None:
    text = prose + prose.join(json.dumps(value) for value in objects)
    assert list(objects_in_prose(text)) == objects
    assert all(json.loads(text[place.start : place.stop]) == value for place, value in located_objects(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": {"c": 2}',  # the last brace is missing
        '{"a": 1,, "b": {"c": 2}}',
        '{"a": "}", "b": {"c": 2}',
        '{"a": "b}, "b": {"c": 2}}',  # a quotation mark is missing
        '{"b": {"c": 2}, "a": {"d": "e',
        '{"a": [{"c": 2}, {"c": 3}',
        '{"a":' * 1_000 + "1" + "}" * 1_000,
    ],
    ids=lambda text: text[:30],
)
def test_an_object_inside_one_that_cannot_be_read_is_not_found_in_prose(text: str) -> None:
    assert list(objects_in_prose(f"So: {text}")) == []


def test_an_object_after_one_that_cannot_be_read_is_found_in_prose() -> None:
    assert list(objects_in_prose('The form is {"a": {"b": text}}, so: {"a": {"b": "c"}}')) == [{"a": {"b": "c"}}]


@pytest.mark.parametrize(
    "text",
    [
        'The JSON starts with {"a": and has two keys.\n\n{"b": 1}',
        'Use {"a"-style keys.\n```json\n{"b": 1}\n```',
        '{"b": 0,\n{"b": 1}',
        '{"b": "15" TV", "c": 2}\nCorrected:\n{"b": 1}',
    ],
)
def test_an_object_on_a_line_of_its_own_is_found_after_one_that_has_no_end(text: str) -> None:
    assert list(objects_in_prose(text))[-1] == {"b": 1}


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3), st.text(st.sampled_from('a \n",:[]')))
def test_an_object_without_its_last_brace_gives_no_object(value: dict[str, Any], prose: str) -> None:
    assert list(objects_in_prose(prose + json.dumps(value)[:-1])) == []


@pytest.mark.parametrize(
    "text", ['{"a": 1\n' * 500_000, '{"a": "b" c\n' * 400_000, '{"\n' * 1_000_000], ids=["open", "odd", "quotes"]
)
def test_a_malicious_text_of_many_beginnings_is_searched_in_linear_time(text: str) -> None:
    assert list(objects_in_prose(text)) == []


@pytest.mark.parametrize("text", ["{" * 5_000_000, '{"a":' * 1_000_000, '{"a"' * 1_000_000, '{"' * 2_000_000])
def test_a_malicious_text_of_megabytes_is_searched_in_linear_time(text: str) -> None:
    """If each brace were followed to the end, this would take days and the test would time out."""
    assert list(located_objects(text)) == list(objects_in_prose(text)) == []


def test_a_number_with_more_digits_than_python_reads_hides_no_object() -> None:
    written = '{"a": %s} then {"b": 1}' % ("9" * 5_000)
    assert list(objects_in_prose(written)) == [{"a": float("inf")}, {"b": 1}]
    assert read_json("9" * 5_000) == float("inf")
