"""Which refusals of Paperless-ngx are about one record, and which are about the sink."""

import pytest

from tests.sinks.conftest import Sinks
from tests.support.ledger import sha
from tests.support.sink_servers import FakePaperless


@pytest.mark.rule("sink-2")
def test_documents_that_paperless_does_not_have_delay_no_other(
    sinks: Sinks, paperless: FakePaperless, address: str
) -> None:
    sinks.use(paperless={"paperless": address, "token": "s3cret-token"})
    others = [f"{n}.txt" for n in range(8)]
    paperless.add(99, "last.txt", sha("last.txt"))
    sinks.answered(*others, "last.txt")
    sent = sinks.send("paperless")
    assert (sent.sent, sent.refused, sent.waits) == (1, 8, None)
    assert sinks.states() == dict.fromkeys(others, "pending") | {"last.txt": "sent"}


@pytest.mark.rule("sink-4")
@pytest.mark.parametrize("match", ["checksum", "path"])
def test_a_token_that_is_shown_no_document_makes_the_sink_wait_and_costs_no_attempt(
    sinks: Sinks, paperless: FakePaperless, address: str, match: str
) -> None:
    sinks.use(paperless={"paperless": address, "token": "s3cret-token", "match": match})
    sinks.answered("a.txt", "b.txt")
    for _ in range(5):  # a record that is refused as often is dead
        sent = sinks.send("paperless")
        assert (sent.sent, sent.refused, sent.is_misconfigured) == (0, 0, True)
        assert (sent.waits or "").startswith("Paperless shows no document at all to this token: check the permissions")
        sinks.end_waits()
    for number, name in enumerate(("a.txt", "b.txt")):
        paperless.add(number, name, sha(name))
    assert sinks.send("paperless").sent == 2


@pytest.mark.rule("sink-4")
def test_a_token_that_may_change_no_document_makes_the_sink_wait(
    sinks: Sinks, paperless: FakePaperless, address: str
) -> None:
    sinks.use(paperless={"paperless": address, "token": "s3cret-token"})
    names = [f"{n}.txt" for n in range(8)]
    for number, name in enumerate(names):
        paperless.add(number, name, sha(name))
        paperless.read_only.add(number)
    sinks.answered(*names)
    assert "refuses every record: HTTP 403 at /api/documents/5/" in (sinks.send("paperless").waits or "")
    assert sinks.states() == dict.fromkeys(names, "pending")


@pytest.mark.rule("sink-4")
def test_a_token_that_may_add_no_note_makes_the_sink_wait(sinks: Sinks, paperless: FakePaperless, address: str) -> None:
    sinks.use(paperless={"paperless": address, "token": "s3cret-token", "note": "summary"})
    names = [f"{n}.txt" for n in range(8)]
    for number, name in enumerate(names):
        paperless.add(number, name, sha(name))
    paperless.refuses = lambda request: 403 if (request.method, request.path[-7:]) == ("POST", "/notes/") else None
    sinks.answered(*names)
    assert "refuses every record: HTTP 403 at /api/documents/5/notes/" in (sinks.send("paperless").waits or "")
