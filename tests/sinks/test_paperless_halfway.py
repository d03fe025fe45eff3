"""Paperless-ngx and attempts that fail halfway: what they wrote still counts as written by this sink, and nothing else does."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dagster_offload.ledger.sinks import deliveries
from dagster_offload.ledger.work import corrections
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.sinks.build import build
from dagster_offload.sinks.planning import plan
from dagster_offload.sinks.sender import send_due
from dagster_offload.stages.catalog import recipes
from tests.sinks.conftest import Sinks
from tests.support.ledger import sha
from tests.support.sink_servers import FakePaperless, Request, serving

NUMBER = 7


@pytest.fixture
def paperless(sinks: Sinks) -> Iterator[FakePaperless]:
    """A server that has the document `a.txt`, whose record is due."""
    paperless = FakePaperless()
    paperless.add(NUMBER, "a.txt", sha("a.txt"))
    with serving(paperless.answer) as address:
        sinks.use(
            paperless={
                "paperless": address,
                "token": "s3cret-token",
                "tags": ["language"],
                "custom_fields": {"Why": "summary"},
                "note": "summary",
            }
        )
        sinks.answered("a.txt")
        yield paperless


def is_patch(request: Request) -> bool:
    return request.method == "PATCH"


def is_note(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/notes/")


def correct(sinks: Sinks, **values: str) -> None:
    new = [NewValue("summarize", name, value) for name, value in values.items()]
    sinks.engine.ledger.run(corrections.correct, "a.txt", new, None, recipes(sinks.engine.settings()))


def values_of(paperless: FakePaperless) -> dict[str, Any]:
    now = paperless.documents[NUMBER]
    return {
        "title": now["title"],
        "tags": paperless.named("tags", now["tags"]),
        "why": paperless.values(NUMBER).get("Why"),
        "notes": [note["note"] for note in paperless.notes.get(NUMBER, [])],
    }


NEWER = {"title": "A new title", "language": "ko", "summary": "A new summary."}
UP_TO_DATE = {"title": "A new title", "tags": ["ko"], "why": "A new summary.", "notes": ["A new summary."]}


def no_note_403(paperless: FakePaperless) -> None:
    paperless.refuses = lambda request: 403 if is_note(request) else None


def no_note_503(paperless: FakePaperless) -> None:
    paperless.refuses = lambda request: 503 if is_note(request) else None


def lost_patch(paperless: FakePaperless) -> None:
    paperless.loses = is_patch


def lost_note(paperless: FakePaperless) -> None:
    paperless.loses = is_note


def healthy(paperless: FakePaperless) -> None:
    paperless.refuses, paperless.loses = lambda _request: None, lambda _request: False


def fail_then_bring_up_to_date(sinks: Sinks, paperless: FakePaperless, fail: Callable[[FakePaperless], None]) -> None:
    fail(paperless)
    assert sinks.send("paperless").sent == 0
    healthy(paperless)
    sinks.end_waits()
    assert sinks.send("paperless").sent == 1
    correct(sinks, **NEWER)
    assert sinks.send("paperless").sent == 1
    assert values_of(paperless) == UP_TO_DATE


FAILURES = [no_note_403, no_note_503, lost_patch, lost_note]


@pytest.mark.rule("sink-6")
@pytest.mark.parametrize("fail", FAILURES)
def test_values_of_an_attempt_that_failed_halfway_are_brought_up_to_date_later(
    sinks: Sinks, paperless: FakePaperless, fail: Callable[[FakePaperless], None]
) -> None:
    fail_then_bring_up_to_date(sinks, paperless, fail)


@pytest.mark.rule("sink-6")
@pytest.mark.parametrize("fail", FAILURES)
def test_the_same_holds_for_a_newer_record_that_fails_halfway(
    sinks: Sinks, paperless: FakePaperless, fail: Callable[[FakePaperless], None]
) -> None:
    assert sinks.send("paperless").sent == 1
    correct(sinks, title="Between", language="en", summary="Between.")
    fail_then_bring_up_to_date(sinks, paperless, fail)


@pytest.mark.rule("sink-6")
@pytest.mark.parametrize("is_revived", [False, True])
def test_the_same_holds_for_a_record_that_died_halfway_with_a_newer_one_behind_it(
    sinks: Sinks, paperless: FakePaperless, *, is_revived: bool
) -> None:
    no_note_403(paperless)
    for _ in range(4):
        sinks.send("paperless")
        sinks.end_waits()
    assert sinks.states() == {"a.txt": "dead"}
    correct(sinks, **NEWER)
    if is_revived:
        sinks.send("paperless")
        assert sinks.engine.ledger.run(deliveries.revive, "paperless") == 1, "the newer one"
    healthy(paperless)
    sinks.end_waits()
    assert sinks.send("paperless").sent >= 1
    assert values_of(paperless) == UP_TO_DATE


@pytest.mark.rule("sink-6")
def test_the_same_holds_for_a_record_that_a_newer_one_supersedes_while_it_is_sent(
    sinks: Sinks, paperless: FakePaperless
) -> None:
    paperless.refuses = lambda _request: 422
    assert sinks.send("paperless").refused == 1, "before it has written anything"
    sinks.end_waits()
    settings = sinks.engine.settings()

    def supersede(_request: Request) -> None:
        if not sinks.engine.sql("select 1 from deliveries where state = 'superseded'"):
            correct(sinks, **NEWER)
            assert plan(settings, sinks.engine.ledger)

    paperless.refuses, paperless.loses = supersede, is_patch
    sinks.send("paperless")
    assert len(sinks.engine.sql("select 1 from deliveries where state = 'superseded'")) == 1
    healthy(paperless)
    sinks.end_waits()
    assert sinks.send("paperless").sent == 1
    assert values_of(paperless) == UP_TO_DATE


@pytest.mark.rule("sink-6")
def test_values_of_a_sender_that_was_killed_are_brought_up_to_date_later(
    sinks: Sinks, paperless: FakePaperless
) -> None:
    class Killed(BaseException):
        pass

    settings = sinks.engine.settings()
    sink = build(settings, "paperless")
    send = sink.send

    def send_and_die(message: Any) -> Any:
        send(message)
        raise Killed

    sink.send = send_and_die  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        send_due(settings, sinks.engine.ledger, "paperless", sink)
    assert sinks.send("paperless").sent == 1
    correct(sinks, **NEWER)
    assert sinks.send("paperless").sent == 1
    assert values_of(paperless) == UP_TO_DATE


@pytest.mark.rule("sink-6")
def test_an_attempt_that_wrote_nothing_claims_nothing(sinks: Sinks, paperless: FakePaperless) -> None:
    paperless.refuses = lambda request: 503 if is_patch(request) else None
    assert sinks.send("paperless").sent == 0
    paperless.documents[NUMBER]["title"] = "Mine"
    healthy(paperless)
    sinks.end_waits()
    assert sinks.send("paperless").sent == 1
    first = values_of(paperless)
    assert first["title"] == "Mine"
    assert first["tags"]
    assert first["why"], "what nobody has set is written by the next attempt"
    correct(sinks, **NEWER)
    sinks.send("paperless")
    assert values_of(paperless) == UP_TO_DATE | {"title": "Mine"}


@pytest.mark.rule("sink-6")
def test_a_value_that_a_person_has_set_before_is_theirs_although_the_record_has_the_same(
    sinks: Sinks, paperless: FakePaperless
) -> None:
    correct(sinks, title="Heating", language="en")
    paperless.documents[NUMBER] |= {"title": "Heating", "tags": [paperless.name("tags", "en")]}
    no_note_403(paperless)
    assert sinks.send("paperless").sent == 0
    healthy(paperless)
    sinks.end_waits()
    sinks.send("paperless")
    correct(sinks, **NEWER)
    sinks.send("paperless")
    assert values_of(paperless) == UP_TO_DATE | {"title": "Heating", "tags": ["en", "ko"]}
