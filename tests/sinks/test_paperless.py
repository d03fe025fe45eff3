"""Paperless-ngx over HTTP, against a stand-in of its REST API."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.settings.sections.sinks import PaperlessSettings
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.http_server import MAX_ANSWER_BYTES
from dagster_offload.sinks.message import Message, sample
from dagster_offload.sinks.paperless import Paperless
from tests.sinks.conftest import Sinks
from tests.support.sink_servers import FakePaperless, serving

CONTENT = b"%PDF heating bill"
SHA, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
RECORD = {
    "document": "scans/bill.pdf",
    "title": "Heating bill",
    "category": "invoice",
    "summary": "What it says.",
    "tags": ["heating", "oil"],
    "amount": 12.5,
    "payee": "Kim Oil",
}


def client(address: str, library: Path, **settings: Any) -> Paperless:
    written = PaperlessSettings.model_validate({"paperless": address, "timeout": 240, **settings})
    return Paperless(written, "s3cret-token", library, lambda record: record, {"amount": "number"})


def message(record: Any = None, written: Any = None) -> Message:
    return Message("key-1", "paperless", "scans/bill.pdf", "v1", record or RECORD, SHA, written or {})


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "bill.pdf").write_bytes(CONTENT)
    return tmp_path


FIELDS: dict[str, Any] = {
    "correspondent": "payee",
    "tags": ["tags"],
    "custom_fields": {"Amount": "amount"},
    "note": "summary",
}


@pytest.mark.parametrize("checksum", [SHA, MD5])
def test_the_record_becomes_the_metadata_of_the_document_with_the_same_checksum(
    paperless: FakePaperless, address: str, library: Path, checksum: str
) -> None:
    paperless.add(1, "bill.pdf", "0" * 32)
    inbox = paperless.name("tags", "Inbox")
    paperless.name("correspondents", "kim oil")
    paperless.add(2, "bill.pdf", checksum, tags=[inbox])
    written = client(address, library, **FIELDS).send(message())
    now = paperless.documents[2]
    assert now["title"] == "Heating bill"
    assert paperless.named("correspondents", now["correspondent"]) == "kim oil", "the one that is there is used"
    assert paperless.named("document_types", now["document_type"]) == "invoice"
    assert paperless.named("tags", now["tags"]) == ["Inbox", "heating", "oil"]
    assert paperless.values(2) == {"Amount": 12.5}
    assert [note["note"] for note in paperless.notes[2]] == ["What it says."]
    assert paperless.documents[1]["title"] == "bill"
    paperless.writes.clear()
    client(address, library, **FIELDS).send(message(written=written))
    assert paperless.writes == [], "the same record writes nothing"


def test_a_repetition_after_a_kill_adds_no_second_note_and_no_second_name(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(2, "bill.pdf", SHA)
    sink = client(address, library, **FIELDS)
    for _ in range(2):
        sink.send(message())  # what was written was not stored, because the sender was killed
    assert len(paperless.notes[2]) == 1
    assert list(paperless.names["tags"].values()) == ["heating", "oil"]
    assert paperless.named("tags", paperless.documents[2]["tags"]) == ["heating", "oil"]


def test_a_newer_record_replaces_our_note_and_values(paperless: FakePaperless, address: str, library: Path) -> None:
    paperless.add(2, "bill.pdf", SHA)
    sink = client(address, library, **FIELDS)
    written = sink.send(message())
    paperless.notes[2].append({"id": 99, "note": "a person's note"})
    newer = RECORD | {"summary": "It says more.", "amount": 80.0, "payee": "Lee Oil"}
    sink.send(message(newer, written))
    assert [note["note"] for note in paperless.notes[2]] == ["a person's note", "It says more."]
    assert paperless.values(2) == {"Amount": 80.0}
    assert paperless.named("correspondents", paperless.documents[2]["correspondent"]) == "Lee Oil"


@pytest.mark.rule("sink-6")
def test_a_changed_file_is_another_document_there_whose_values_are_judged_anew(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(2, "bill.pdf", SHA)
    sink = client(address, library, **FIELDS)
    written = sink.send(message())
    del paperless.documents[2]
    theirs = paperless.name("correspondents", "My landlord")
    paperless.add(3, "bill.pdf", SHA, correspondent=theirs)
    sink.send(message(written=written))
    now = paperless.documents[3]
    assert (now["title"], now["correspondent"]) == ("Heating bill", theirs)
    assert paperless.named("tags", now["tags"]) == ["heating", "oil"]
    assert paperless.values(3) == {"Amount": 12.5}
    assert [note["note"] for note in paperless.notes[3]] == ["What it says."]


@pytest.mark.rule("sink-6")
def test_what_a_release_without_numbers_has_written_is_still_known(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(2, "bill.pdf", SHA)
    sink = client(address, library, **FIELDS)
    written = {name: value for name, value in sink.send(message()).items() if name != "number"}
    sink.send(message(RECORD | {"title": "Oil bill"}, written))
    assert paperless.documents[2]["title"] == "Oil bill"


@pytest.mark.rule("sink-6")
def test_what_a_person_has_set_stays(paperless: FakePaperless, address: str, library: Path) -> None:
    theirs = paperless.name("correspondents", "My landlord")
    paperless.add(2, "bill.pdf", SHA, title="Mine", correspondent=theirs)
    client(address, library, **FIELDS).send(message())
    now = paperless.documents[2]
    assert (now["title"], now["correspondent"]) == ("Mine", theirs)
    client(address, library, **FIELDS, overwrite=True).send(message())
    assert paperless.documents[2]["title"] == "Heating bill"


def test_custom_fields_of_each_type_get_values_in_their_form(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    options = {"select_options": [{"id": "abc", "label": "Invoice"}]}
    paperless.custom_fields |= {
        1: {"id": 1, "name": "Amount", "data_type": "monetary", "extra_data": {}},
        2: {"id": 2, "name": "Kind", "data_type": "select", "extra_data": options},
        3: {"id": 3, "name": "Other", "data_type": "string", "extra_data": {}},
    }
    paperless.add(2, "bill.pdf", SHA, custom_fields=[{"field": 3, "value": "a person's"}])
    fields = {"Amount": "amount", "Kind": "category"}
    written = client(address, library, custom_fields=fields).send(message())
    assert paperless.values(2) == {"Other": "a person's", "Amount": "12.50", "Kind": "abc"}
    paperless.writes.clear()
    client(address, library, custom_fields=fields).send(message(written=written))
    assert paperless.writes == []
    with pytest.raises(SinkFault, match="has no choice") as caught:
        client(address, library, custom_fields=fields).send(message(RECORD | {"category": "letter"}, written))
    assert caught.value.blame is Blame.REFUSED


@pytest.mark.parametrize(("data_type", "length"), [("string", 128), (None, 128), ("longtext", 1000)])
def test_a_text_is_cut_to_what_its_custom_field_may_hold(
    paperless: FakePaperless, address: str, library: Path, data_type: str | None, length: int
) -> None:
    if data_type is not None:
        paperless.custom_fields[1] = {"id": 1, "name": "Why", "data_type": data_type, "extra_data": {}}
    paperless.add(2, "bill.pdf", SHA)
    sink, record = client(address, library, custom_fields={"Why": "summary"}), RECORD | {"summary": "x" * 1000}
    written = sink.send(message(record))
    text = paperless.values(2)["Why"]
    assert (len(text), text.endswith("…")) == (length, length < 1000)
    paperless.writes.clear()
    sink.send(message(record, written))
    assert paperless.writes == [], "the same record writes nothing"
    sink.send(message(record | {"summary": "Short."}, written))
    assert paperless.values(2) == {"Why": "Short."}, "it is still known to be ours"


def test_an_address_that_its_custom_field_cannot_hold_is_refused_before_it_is_sent(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.custom_fields[1] = {"id": 1, "name": "Portal", "data_type": "url", "extra_data": {}}
    paperless.add(2, "bill.pdf", SHA)
    sink, portal = client(address, library, custom_fields={"Portal": "portal"}), "https://a.example/".ljust(200, "x")
    written = sink.send(message(RECORD | {"portal": portal}))
    assert paperless.values(2) == {"Portal": portal}
    with pytest.raises(SinkFault, match="'Portal' has the type `url`, which takes 200 characters at most") as caught:
        sink.send(message(RECORD | {"portal": portal + "x"}, written))
    assert (caught.value.blame, caught.value.is_of_record) == (Blame.REFUSED, True)
    assert paperless.values(2) == {"Portal": portal}


def test_a_number_that_its_custom_field_cannot_hold_is_refused_before_it_is_sent(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.custom_fields[1] = {"id": 1, "name": "Meter", "data_type": "integer", "extra_data": {}}
    paperless.add(2, "bill.pdf", SHA)
    sink = client(address, library, custom_fields={"Meter": "meter"})
    written = sink.send(message(RECORD | {"meter": 2**31 - 1}))
    with pytest.raises(SinkFault, match="'Meter' has the type `integer`, which takes no number of this size") as caught:
        sink.send(message(RECORD | {"meter": 2**31}, written))
    assert (caught.value.blame, caught.value.is_of_record) == (Blame.REFUSED, True)
    assert paperless.values(2) == {"Meter": 2**31 - 1}


def test_a_value_that_its_custom_field_does_not_take_is_refused_with_the_name_of_the_field(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.custom_fields |= {
        1: {"id": 1, "name": "Note", "data_type": "string", "extra_data": {}},
        2: {"id": 2, "name": "Amount", "data_type": "integer", "extra_data": {}},
    }
    paperless.add(2, "bill.pdf", SHA)
    fields = {"Note": "title", "Amount": "amount"}
    with pytest.raises(SinkFault) as caught:
        client(address, library, custom_fields=fields).send(message())
    assert caught.value.blame is Blame.REFUSED
    assert caught.value.reason == (
        "HTTP 400 at /api/documents/2/: the custom field 'Amount' does not take this value: check its type in Paperless"
    )


@pytest.mark.rule("sink-6")
def test_names_of_another_user_stay_and_hold_up_no_record(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    theirs, secret = paperless.name("correspondents", "My landlord"), paperless.name("tags", "secret")
    paperless.add(2, "bill.pdf", SHA, correspondent=theirs, tags=[secret])
    paperless.hidden |= {("correspondents", theirs), ("tags", secret)}
    written = client(address, library, **FIELDS).send(message())
    now = paperless.documents[2]
    assert (now["title"], now["correspondent"]) == ("Heating bill", theirs)
    assert paperless.named("tags", now["tags"]) == ["secret", "heating", "oil"]
    assert (written["tags"], "correspondent" in written) == (["heating", "oil"], False)
    paperless.writes.clear()
    client(address, library, **FIELDS).send(message(written=written))
    assert paperless.writes == []


def test_a_document_that_this_user_may_not_change_is_refused_and_holds_up_no_other(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(2, "bill.pdf", SHA)
    paperless.read_only.add(2)
    with pytest.raises(SinkFault, match="HTTP 403 at /api/documents/2/: check whether the token's user may") as caught:
        client(address, library).send(message())
    assert caught.value.blame is Blame.REFUSED


@pytest.mark.parametrize("settings", [{}, {"match": "path"}])
def test_a_document_with_a_very_long_text_is_sent_as_any_other(
    paperless: FakePaperless, address: str, library: Path, settings: dict[str, str]
) -> None:
    paperless.add(2, "bill.pdf", SHA, content="x" * (MAX_ANSWER_BYTES + 1))
    client(address, library, **settings).send(message())
    assert paperless.documents[2]["title"] == "Heating bill"


def test_a_document_is_found_by_its_file_name_if_that_is_asked_for(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(1, "2024/bill.pdf", "0")
    sink = client(address, library, match="path")
    sink.send(message())
    assert paperless.documents[1]["title"] == "Heating bill"
    paperless.add(2, "scans/bill.pdf", "0", title="")
    sink.send(message())
    assert paperless.documents[2]["title"] == "Heating bill", "of two, the one with the same path"


@pytest.mark.parametrize(
    ("settings", "blame", "reason"),
    [
        ({}, Blame.REFUSED, "no document with the checksum"),
        ({"match": "path"}, Blame.REFUSED, "no documents with this file name"),
        ({"paperless": "http://127.0.0.1:1"}, Blame.UNAVAILABLE, "connection refused"),
    ],
)
def test_a_document_that_paperless_does_not_have_is_refused_for_now(
    paperless: FakePaperless, address: str, library: Path, settings: dict[str, str], blame: Blame, reason: str
) -> None:
    paperless.add(1, "other.pdf", "0")
    with pytest.raises(SinkFault, match=reason) as caught:
        client(settings.pop("paperless", address), library, **settings).send(message())
    assert caught.value.blame is blame


def test_missing_names_are_not_created_if_that_is_off(paperless: FakePaperless, address: str, library: Path) -> None:
    paperless.add(2, "bill.pdf", SHA)
    with pytest.raises(SinkFault, match="set `create: true`"):
        client(address, library, create=False).send(message())
    assert paperless.names["document_types"] == {}


def test_a_test_changes_nothing_and_a_wrong_token_is_named_without_being_shown(
    paperless: FakePaperless, address: str, library: Path
) -> None:
    paperless.add(2, "bill.pdf", SHA)
    shown = client(address, library, **FIELDS).test(sample("paperless", RECORD))
    assert "shows 1 document to this token" in shown
    assert "to be created: Amount" in shown
    assert paperless.writes == []
    paperless.token = "another"
    with pytest.raises(SinkFault, match="HTTP 401 at /api/documents/: check its token") as caught:
        client(address, library).test(sample("paperless", RECORD))
    assert "s3cret" not in caught.value.reason


def test_a_page_that_is_not_paperless_is_a_wrong_address(library: Path) -> None:
    with (
        serving(lambda _request: (200, None)) as other,
        pytest.raises(SinkFault) as caught,
    ):
        client(other, library).send(message())
    assert caught.value.reason


@pytest.mark.parametrize("content", [[], [1], {"results": 1}, {"results": [{"id": "x"}]}, {"results": [{}]}, "text", 1])
def test_an_answer_in_another_form_is_a_refusal_and_no_bug(library: Path, content: Any) -> None:
    with serving(lambda _request: (200, content)) as other:
        for call in (client(other, library).send, client(other, library).test):
            with pytest.raises(SinkFault, match="in a form that is not known"):
                call(message())


def test_a_list_without_an_end_is_a_wrong_address(library: Path) -> None:
    content = {"count": 1, "results": [], "next": "http://elsewhere/"}
    with (
        serving(lambda _request: (200, content)) as other,
        pytest.raises(SinkFault, match="more than 100 pages") as caught,
    ):
        client(other, library).test(message())
    assert caught.value.blame is Blame.MISCONFIGURED


def test_a_record_of_the_ledger_reaches_paperless_and_a_renewed_one_updates_it(
    sinks: Sinks, paperless: FakePaperless, address: str
) -> None:
    from tests.support.ledger import sha

    sinks.use(paperless={"paperless": address, "token": "s3cret-token", "tags": ["language"], "note": "summary"})
    paperless.add(7, "a.txt", sha("a.txt"))
    sinks.answered("a.txt")
    assert sinks.send("paperless").sent == 1
    assert paperless.notes[7][0]["note"]
    assert paperless.named("document_types", paperless.documents[7]["document_type"])
    [row] = sinks.engine.sql("select written from deliveries")
    assert row["written"]["title"] == paperless.documents[7]["title"]
