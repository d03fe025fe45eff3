"""A slot that is unavailable for days, beside others: whether documents wait for it."""

import json
from collections.abc import Sequence

import pytest

from dagster_offload.ledger.slots import slots
from tests.notify.conftest import Channels
from tests.support.sink_servers import Receiver

BOTH = ["deep", "studio"]
STUDIO = {"url": "http://studio.invalid", "model": "m", "expected_model": "."}
AWAY = "insert into availability (slot, is_available, since) values (%s, false, now() - interval '4 days')"


def use(
    channels: Channels, *, priority: int = 0, classify: Sequence[str] = BOTH, summarize: Sequence[str] = BOTH
) -> None:
    """Add the slot `studio`, which is away for four days, and name the slots that may answer each stage."""
    engine = channels.engine
    file = engine.library.parent / "offload.yaml"
    added = {
        "slots": {"studio": STUDIO | {"priority": priority}},
        "stages": {"classify": {"slots": classify}, "summarize": {"slots": summarize}},
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | added))
    for slot in engine.settings().slots:
        engine.ledger.run(slots.register, slot)
    engine.sql(AWAY, "studio")


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize(
    ("classify", "summarize", "words"),
    [
        (["studio"], ["studio"], "2 documents wait for it, and"),
        (["deep"], ["studio"], "2 documents wait for it, and"),
        (["deep"], BOTH, "2 documents left, and"),
        (BOTH, BOTH, "2 documents left, and"),
    ],
)
def test_documents_wait_for_a_slot_that_is_away_if_no_available_one_may_answer(
    channels: Channels, receiver: Receiver, classify: list[str], summarize: list[str], words: str
) -> None:
    channels.engine.texts("a.txt", "b.txt")
    use(channels, classify=classify, summarize=summarize)
    channels.round("hook")
    [message] = [request.json for request in receiver.got]
    assert "the slot studio is unavailable for 3 days" in message["title"]
    assert words in message["message"]


@pytest.mark.usefixtures("hook")
def test_a_slot_without_work_may_be_away(channels: Channels, receiver: Receiver) -> None:
    use(channels)
    channels.round("hook")
    assert receiver.got == []


@pytest.mark.usefixtures("hook")
def test_a_slot_in_reserve_may_be_away_for_days_while_a_better_one_is_available(
    channels: Channels, receiver: Receiver
) -> None:
    channels.engine.texts("a.txt")
    use(channels, priority=-1)
    channels.round("hook")
    assert receiver.got == []
    channels.engine.sql(AWAY, "deep")
    channels.round("hook")
    messages = {request.json["title"].partition(": ")[2]: request.json["message"] for request in receiver.got}
    assert sorted(messages) == [f"the slot {name} is unavailable for 3 days" for name in ("deep", "studio")]
    assert all("1 document waits for it" in message for message in messages.values())


@pytest.mark.usefixtures("hook")
def test_a_better_slot_that_holds_the_stage_leaves_it_to_the_one_in_reserve(
    channels: Channels, receiver: Receiver
) -> None:
    channels.engine.texts("a.txt")
    use(channels, priority=-1)
    channels.engine.sql(
        "insert into stage_faults (slot, stage, code, recipe, items, held_since) "
        "values ('deep', 'summarize', 'no_json', 'r', '{}', now())"
    )
    channels.round("hook")
    messages = {request.json["event"]: request.json["message"] for request in receiver.got}
    assert "1 document waits for it" in messages["away"]
