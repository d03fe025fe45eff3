"""A stage that is removed from the pipeline: records that are complete by that, and records that lose its answer."""

import pytest

from dagster_offload.sinks.planning import plan
from tests.sinks.conftest import Sinks
from tests.support.own_stages import PAYMENT, fill
from tests.support.sink_servers import Receiver

OF_ALL = {name: value for name, value in PAYMENT.items() if name != "when"}  # asked about every document


def got(receiver: Receiver) -> list[tuple[str, bool]]:
    """The documents whose records arrived, and whether each record had the stage's answer."""
    return [(request.json["document"], "payment" in request.json["record"]) for request in receiver.got]


def answered_without_payment(sinks: Sinks, *documents: str) -> None:
    """Add documents of which only the stage `payment` is not done."""
    sinks.engine.texts(*documents)
    sinks.engine.drain("classify")
    sinks.engine.drain("summarize")


@pytest.mark.rule("sink-1")
@pytest.mark.parametrize("existing", [True, False])
def test_a_record_that_is_complete_because_a_stage_was_removed_is_sent(
    sinks: Sinks, webhook: str, receiver: Receiver, *, existing: bool
) -> None:
    sinks.use_stages(payment=OF_ALL)
    sinks.use(hook={"webhook": webhook, "existing": existing})
    answered_without_payment(sinks, "a.txt")
    assert sinks.send("hook").sent == 0
    sinks.use_stages()
    assert sinks.send("hook").sent == 1
    assert got(receiver) == [("a.txt", False)]
    sinks.use_stages(payment=OF_ALL)
    assert sinks.send("hook").sent == 0
    sinks.use_stages()
    assert sinks.send("hook").sent == 0, "it is the record that was sent"


@pytest.mark.rule("sink-1")
def test_records_that_lose_the_answer_of_a_stage_are_sent_again_where_they_were_sent(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use_stages(payment=OF_ALL)
    sinks.answered("before.txt")
    sinks.use(hook={"webhook": webhook, "existing": False})
    sinks.answered("a.txt")
    sinks.send("hook")
    sinks.use_stages()
    sinks.send("hook")
    assert got(receiver) == [("a.txt", True), ("a.txt", False)]


def test_what_is_complete_since_an_earlier_removal_is_an_existing_record(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use_stages(payment=OF_ALL, refund=OF_ALL)
    answered_without_payment(sinks, "before.txt")
    sinks.engine.drain("refund")
    sinks.use_stages(refund=OF_ALL)
    sinks.use(hook={"webhook": webhook, "existing": False})
    sinks.use_stages()
    sinks.send("hook")
    assert got(receiver) == []


def test_two_removals_before_a_sender_looks_both_count(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.use_stages(payment=OF_ALL, refund=OF_ALL)
    sinks.use(hook={"webhook": webhook, "existing": False})
    answered_without_payment(sinks, "a.txt")
    sinks.engine.drain("refund")
    answered_without_payment(sinks, "b.txt")
    assert sinks.send("hook").sent == 0
    sinks.use_stages(refund=OF_ALL)
    sinks.use_stages()
    sinks.send("hook")
    assert got(receiver) == [("a.txt", False), ("b.txt", False)]


def test_a_sink_that_looks_at_all_documents_goes_on_with_that(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.use_stages(payment=OF_ALL)
    sinks.answered("before.txt")
    sinks.use(hook={"webhook": webhook})
    sinks.use_stages()
    sinks.send("hook")
    assert got(receiver) == [("before.txt", False)]


def test_a_sender_with_the_former_stages_leaves_the_records_to_one_with_those_in_force(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use_stages(payment=OF_ALL)
    sinks.use(hook={"webhook": webhook})
    answered_without_payment(sinks, "a.txt")
    former = sinks.engine.settings()
    sinks.use_stages()
    assert not plan(former, sinks.engine.ledger)
    assert sinks.states() == {}
    sinks.send("hook")
    assert got(receiver) == [("a.txt", False)]


@pytest.mark.rule("sink-1")
def test_nothing_is_sent_while_documents_lack_the_work_items_of_a_new_stage(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use_stages(payment=OF_ALL)
    sinks.use(hook={"webhook": webhook})
    sinks.answered("sent.txt")
    sinks.send("hook")
    answered_without_payment(sinks, "waits.txt")
    sinks.use_stages(refund=OF_ALL)
    assert sinks.send("hook").sent == 0, "no document was asked about the new stage yet"
    sinks.engine.drain("refund")
    sinks.send("hook")
    assert got(receiver) == [("sent.txt", True), ("sent.txt", False), ("waits.txt", False)]


@pytest.mark.rule("sink-1")
def test_a_stage_that_was_tried_and_removed_makes_no_record_new(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.answered("before.txt")
    sinks.use(hook={"webhook": webhook, "existing": False})
    sinks.use_stages(payment=OF_ALL)
    fill(sinks.engine)
    sinks.use_stages()
    sinks.send("hook")
    assert got(receiver) == []
