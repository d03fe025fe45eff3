"""Messages between extractor and child are parsed to what was sent."""

import pytest

from dagster_offload.extraction.ocr.tesseract import Reader
from dagster_offload.extraction.protocol import (
    HEADER,
    Changed,
    Crashed,
    Extracted,
    Message,
    PageRead,
    Ready,
    Refused,
    Request,
    Unopened,
    frame,
    parse_message,
    parse_request,
    request_line,
    take_message,
)
from dagster_offload.stages.graph import Outcome


@pytest.mark.parametrize(
    "message",
    [
        Ready(),
        PageRead(2, 3),
        PageRead(2, 3, "회의록\nsecond line"),
        Extracted(Outcome.OK, "본문", {"pages": 2, "title": "회의"}),
        Refused("broken_file", "the file is broken", is_final=True),
        Crashed("extraction_crash", "PanicException"),
        Changed(),
        Unopened(13),
    ],
)
def test_a_parsed_message_equals_the_sent_one(message: Message) -> None:
    sent = frame(message)
    assert HEADER.unpack(sent[: HEADER.size]) == (len(sent) - HEADER.size,)
    assert parse_message(sent[HEADER.size :]) == message


@pytest.mark.parametrize("piece", [1, 7, 8, 9, 30, 1000])
def test_messages_are_taken_one_by_one_however_the_pipe_cuts_them(piece: int) -> None:
    messages: list[Message] = [PageRead(1, 2), PageRead(1, 2, "회의록"), Extracted(Outcome.OK, "본문" * 50, {})]
    sent = b"".join(map(frame, messages))
    received, taken = bytearray(), list[Message]()
    for start in range(0, len(sent), piece):
        received += sent[start : start + piece]
        while (message := take_message(received)) is not None:
            taken.append(message)
    assert taken == messages
    assert not received


def test_a_request_is_one_line_and_the_parsed_request_equals_the_sent_one() -> None:
    reader = Reader("/usr/bin/tesseract", "5.3", "kor+eng", (), True, "")
    request = Request("/docs/a\nb.pdf", "/docs", None, 1024, "pdf", reader, {1: "first\npage", 7: ""})
    line = request_line(request)
    assert line.count(b"\n") == 1
    assert parse_request(line) == request


def test_an_unknown_message_is_an_error() -> None:
    with pytest.raises(KeyError):
        parse_message(b'["Surprise", {}]')
