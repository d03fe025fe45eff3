"""Further slots beside `deep`: how they are written, what is refused and where, and what their answers have in common."""

from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.pipelines import pipeline_message
from dagster_offload.settings import Settings, load_settings
from dagster_offload.settings.leaves import leaves_of_slots
from dagster_offload.stages.catalog import recipes, stages_by_slot
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.pipeline import difference, pipeline_of

DEEP = "slots:\n  deep: {url: http://macbook.local:8890, model: m, expected_model: Qwen}\n"
STUDIO = "  studio: {url: http://studio.local:8890, model: n, expected_model: Qwen, concurrency: 4}\n"
BOTH = "stages:\n  classify: {slots: [deep, studio]}\n"


@pytest.fixture(autouse=True)
def home(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OFFLOAD_CONFIG", str(tmp_path / "offload.yaml"))
    monkeypatch.chdir(tmp_path)


def settings(text: str, **options: Any) -> Settings:
    Path("offload.yaml").write_text(text, encoding="utf-8")
    return load_settings(**options)


def refused(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(text)
    return str(caught.value).replace(str(Path.cwd()) + "/", "")


@pytest.mark.rule("slot-16")
def test_a_stage_names_its_slots_and_the_default_is_deep_alone() -> None:
    found = settings(DEEP + STUDIO + BOTH)
    assert [slot.name for slot in found.slots] == ["deep", "studio"]
    assert stages_by_slot(found, [CLASSIFY, SUMMARIZE]) == {"deep": [CLASSIFY, SUMMARIZE], "studio": [CLASSIFY]}
    (studio,) = found.slots.further
    assert (studio.concurrency, studio.setting("url")) == (4, "slots.studio.url")


@pytest.mark.rule("slot-16")
def test_any_means_every_slot_and_primary_is_never_one_of_a_drain() -> None:
    primary = "  primary: {url: http://localhost:1, model: small}\n"
    found = settings(DEEP + STUDIO + primary + "stages:\n  classify: {slots: any}\n")
    assert stages_by_slot(found, [CLASSIFY]) == {"deep": [CLASSIFY], "studio": [CLASSIFY], "primary": [CLASSIFY]}
    assert [slot.name for slot in found.slots.of_drains] == ["deep", "studio"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEEP + "stages:\n  classify: {slots: [deep, deep]}\n", "4:21: stages.classify.slots: lists deep twice"),
        (DEEP + STUDIO + "stages:\n  classify: {slots: [deep, studoi]}\n", "did you mean studio?"),
        (DEEP + STUDIO + "stages:\n  classify: {slots: [deep, any]}\n", "`any` stands alone"),
        (DEEP + "stages:\n  classify: {slots: []}\n", "names no slot"),
        (DEEP + STUDIO, "3:11: slots.studio: no stage names this slot"),
        (DEEP + "  primry: {url: http://h:1, model: m}\n", "did you mean primary?"),
        (DEEP + "  studio: {model: n}\n" + BOTH, "slots.studio: a further slot needs a url and a model"),
        ("slots:\n" + STUDIO + BOTH, "slots.studio: there are further slots only beside deep"),
        (
            DEEP + "  studio: {url: http://macbook.local:8890/v1, model: m}\n" + BOTH,
            "3:11: slots.studio: is the slot deep again (the same url and model): list each slot once",
        ),
        (DEEP + STUDIO + "  studio: {url: http://h:1, model: m}\n" + BOTH, "4:3"),
        ((DEEP + STUDIO + BOTH).replace("studio", "Studio"), "'Studio' is not a slot's name"),
        ((DEEP + STUDIO + BOTH).replace("studio", "copy"), "'copy' is a name that this program uses itself"),
        (DEEP + STUDIO.replace("concurrency: 4", "concurency: 4") + BOTH, "in slots.studio: did you mean concurrency?"),
        (
            DEEP + STUDIO.replace("concurrency: 4", "concurrency: 0") + BOTH,
            "slots.studio.concurrency: must be at least",
        ),
        (DEEP + STUDIO.replace("concurrency: 4", "prioritty: 4") + BOTH, "in slots.studio: did you mean priority?"),
        (DEEP + STUDIO.replace("concurrency: 4", "priority: high") + BOTH, "3:85: slots.studio.priority: must be"),
        (DEEP + STUDIO.replace("concurrency: 4", "priority: 1.5") + BOTH, "3:85: slots.studio.priority: must be"),
        (DEEP + STUDIO.replace("concurrency: 4", "priority: 1001") + BOTH, "3:85: slots.studio.priority: must be"),
        (DEEP + "  primary: {url: http://h:1, model: m, priority: 1}\n", "there is no key 'priority' in slots.primary"),
        (DEEP + "stages:\n  classify: {slots: [primary]}\n", "a drain never works at primary: name another slot too"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_word(text: str, expected: str) -> None:
    message = refused(text)
    assert expected in message
    assert message.startswith("offload.yaml:")


def test_a_key_or_a_password_of_a_further_slot_is_not_readable_by_others() -> None:
    text = DEEP + STUDIO.replace("model: n", "model: n, api_key: s3cret") + BOTH
    Path("offload.yaml").write_text(text, encoding="utf-8")
    Path("offload.yaml").chmod(0o644)
    with pytest.raises(SettingsError, match=r"slots\.studio\.api_key contains a secret") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


def test_relative_paths_of_a_further_slot_start_at_the_file(tmp_path: Path) -> None:
    Path("key").write_text("k\n", encoding="utf-8")
    (studio,) = settings(DEEP + STUDIO.replace("model: n", "model: n, api_key_file: key") + BOTH).slots.further
    assert studio.api_key == "k"


def test_the_settings_of_a_further_slot_are_shown_by_their_keys() -> None:
    found = settings(DEEP + STUDIO + BOTH)
    shown = {leaf.dotted: leaf.value_in(found) for leaf in leaves_of_slots(found.slots_section.further)}
    assert shown["slots.studio.concurrency"] == 4
    assert shown["slots.studio.wake.times_a_day"] == 3


def test_the_variable_of_any_stages_leaves_a_list_in_the_file() -> None:
    found = settings(DEEP + STUDIO + BOTH, any_stages="summarize")
    assert (found.stages.classify.slots, found.stages.summarize.slots) == (("deep", "studio"), "any")


@pytest.mark.rule("slot-18")
def test_slots_with_the_same_expected_model_share_the_recipe_of_each_alone() -> None:
    alone, both = settings(DEEP), settings(DEEP + STUDIO + BOTH)
    assert recipes(alone) == recipes(both)


@pytest.mark.rule("slot-18")
def test_a_recipe_names_only_what_the_slots_have_in_common() -> None:
    other = STUDIO.replace("expected_model: Qwen", "expected_model: gpt")
    alone, both = settings(DEEP), settings(DEEP + other + BOTH)
    assert recipes(alone)[CLASSIFY] != recipes(both)[CLASSIFY]
    assert recipes(alone)[SUMMARIZE] == recipes(both)[SUMMARIZE]
    assert recipes(both)[CLASSIFY] == recipes(settings(DEEP + other + "stages: {classify: {slots: any}}\n"))[CLASSIFY]


@pytest.mark.rule("slot-19")
def test_a_priority_is_no_part_of_a_recipe_and_is_0_by_default() -> None:
    plain, ranked = settings(DEEP + STUDIO + BOTH), settings(DEEP + STUDIO.replace("}", ", priority: 2}") + BOTH)
    assert [slot.priority for slot in plain.slots] == [0, 0]
    assert [slot.priority for slot in ranked.slots] == [0, 2]
    assert recipes(plain) == recipes(ranked)
    found = str(difference(pipeline_of(plain), pipeline_of(ranked)))
    assert found == "slots.studio.priority is 0 here and 2 there (classify)"
    assert pipeline_message(pipeline_of(plain)) != pipeline_message(pipeline_of(ranked)), "running drains end"
    assert [slot.name for slot in ranked.slots.allowed(("deep", "studio"))] == ["studio", "deep"]


@pytest.mark.rule("pipeline-1")
def test_priorities_that_keep_the_order_of_the_slots_make_no_difference() -> None:
    one, two = (settings(DEEP + STUDIO.replace("}", f", priority: {n}}}") + BOTH) for n in (1, 2))
    assert difference(pipeline_of(one), pipeline_of(two)) is None
    assert pipeline_message(pipeline_of(one)) == pipeline_message(pipeline_of(two)), "no drain ends"
    apart = "stages: {classify: {slots: studio}}\n"
    alone = settings(DEEP + STUDIO.replace("}", ", priority: 2}") + apart)
    assert difference(pipeline_of(settings(DEEP + STUDIO + apart)), pipeline_of(alone)) is None, (
        "no stage has two slots"
    )


@pytest.mark.rule("slot-18")
def test_a_difference_of_pipelines_names_the_key_of_the_further_slot() -> None:
    one = pipeline_of(settings(DEEP + STUDIO + BOTH))
    other = pipeline_of(settings(DEEP + STUDIO.replace("expected_model: Qwen", "expected_model: gpt") + BOTH))
    assert "slots.studio.expected_model is gpt here and Qwen there" in str(difference(other, one))
