"""One changed value in the text of a pipeline file: everything else stays, in block and in flow style."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload.errors import SettingsError
from dagster_offload.settings.editing import with_value
from dagster_offload.settings.writing import one_line
from dagster_offload.settings.yaml_text import parse_yaml

URL = ("slots", "deep", "url")


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("", "slots:\n  deep:\n    url: NEW\n"),
        ("# only a comment", "# only a comment\nslots:\n  deep:\n    url: NEW\n"),
        ("slots:\n  deep: {}\n", "slots:\n  deep: {url: NEW}\n"),
        ("slots: {deep: {model: m}} # all\n", "slots: {deep: {model: m, url: NEW}} # all\n"),
        ("slots: {} # none\n", "slots: {deep: {url: NEW}} # none\n"),
        ("slots:\n    deep:  # here\n\n# end\n", "slots:\n    deep:  # here\n      url: NEW\n\n# end\n"),
        ("slots:\n  deep:\n    url: old # why\n    model: m\n", "slots:\n  deep:\n    url: NEW # why\n    model: m\n"),
        ("slots:\n  deep:\n    url:\n    model: m\n", "slots:\n  deep:\n    url: NEW\n    model: m\n"),
        ("slots:\n  deep:\n    url: 'a ''b'' c'\n", "slots:\n  deep:\n    url: NEW\n"),
        (
            "slots:\n   deep:\n      model: m # alias\n\n   # the small one\n   primary: {}\nocr: off\n",
            "slots:\n   deep:\n      model: m # alias\n      url: NEW\n\n   # the small one\n   primary: {}\nocr: off\n",
        ),
        (
            "slots:\n  deep:\n    # url: http://x  # the router\n    model: m\n",
            "slots:\n  deep:\n    url: NEW  # the router\n    model: m\n",
        ),
        (
            "slots:\n  deep:\n    model: m\n  primary:\n    # url:\n",
            "slots:\n  deep:\n    model: m\n    url: NEW\n  primary:\n    # url:\n",
        ),
        (
            "slots:\n  deep:\n    model: |\n      two\n      lines\nocr: off\n",
            "slots:\n  deep:\n    model: |\n      two\n      lines\n    url: NEW\nocr: off\n",
        ),
    ],
)
def test_a_value_is_changed_or_added_and_everything_else_stays(text: str, edited: str) -> None:
    assert with_value(text, URL, "NEW") == edited


@pytest.mark.parametrize("text", ["slots: 5\n", "slots: [deep]\n", "slots:\n  deep: on\n"])
def test_a_key_below_a_plain_value_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"slots\.deep\.url cannot be set"):
        with_value(text, URL, "NEW")


def test_a_shared_value_is_not_changed_silently() -> None:
    text = "slots:\n  deep: &one\n    url: a\n  primary: *one\n"
    with pytest.raises(SettingsError, match="cannot be set automatically in this file"):
        with_value(text, URL, "NEW")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=20))
def test_every_text_survives_the_file(value: str) -> None:
    edited = with_value("slots:\n  deep:\n    url: old  # why\n", URL, one_line(value))
    assert parse_yaml(edited, "x").values == {"slots": {"deep": {"url": value}}}
