"""`preview`: what a scan would find, without a ledger."""

import json
import os
import threading
from pathlib import Path

import pytest

from dagster_offload.cli import preview as preview_command
from dagster_offload.engine import preview as engine_preview
from dagster_offload.engine.preview import Sample, estimate
from dagster_offload.settings import load_settings
from dagster_offload.text.tokens import estimated_tokens
from tests.support.cli import Call


def test_preview_counts_files_and_tokens_and_stores_nothing(call: Call, library: Path) -> None:
    (library / "holiday.zip").write_bytes(b"PK")
    (library / "scan.png").write_bytes(bytes.fromhex("89504e470d0a1a0a"))
    found = json.loads(call("preview", "--json").stdout)
    assert (found["documents"], found["sampled"], found["with_text"]) == (3, 3, 2)
    texts = [(library / name).read_text() for name in ("letter.txt", "minutes.md")]
    assert abs(found["tokens"] - sum(map(estimated_tokens, texts))) <= 2
    assert found["tokens_read"] > found["tokens"]
    assert found["left_out"]["type"] == {"count": 1, "names": ["holiday.zip"]}
    assert [entry["tokens_per_second"] for entry in found["hours"]] == [100, 300, 1000]
    assert not found["is_pace_measured"]
    assert not load_settings().home.exists()


def test_preview_says_what_is_left_out_and_how_long_it_takes(call: Call, library: Path) -> None:
    (library / "holiday.zip").write_bytes(b"PK")
    shown = call("preview").stdout
    assert f"{library}: 2 documents" in shown
    assert "left out: 1 of a type that is not read: holiday.zip" in shown
    assert " at 100 tokens/s, " in shown
    assert " at 300 tokens/s, " in shown
    assert ", if it answers every stage of every document from the start" in shown


def test_preview_counts_one_long_document_in_the_singular(
    call: Call, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library / "minutes.md").unlink()
    (library / "letter.txt").write_text("The tenant pays the rent on time. " * 400)
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "m")
    monkeypatch.setenv("OFFLOAD_DEEP_CONTEXT_TOKENS", "2048")
    shown = call("preview").stdout.splitlines()
    assert "longer than the model's context, so read in parts: 1 document" in shown


def test_preview_without_a_library_names_the_option(call: Call) -> None:
    result = call("preview")
    assert result.exit_code == 2
    assert "--library DIR" in result.stderr


def test_tokens_of_files_outside_the_sample_follow_their_size() -> None:
    text, image, unseen = estimate(
        {"txt": [100, 100, 800], "png": [5000], "rst": [50]},
        {"txt": [Sample(100, 25), Sample(100, 35)], "png": [Sample(5000, 0, needs_ocr=True)]},
    )
    assert (text.tokens, text.with_text, text.documents) == (60 + 240, 3, 3)
    assert (image.tokens, image.need_ocr, image.with_text) == (0, 1, 0) if image.type == "png" else True
    assert {image.type, unseen.type} == {"png", "rst"}


def test_up_starts_without_a_preview_if_the_drive_of_the_library_hangs(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    answers = threading.Event()
    monkeypatch.setattr(engine_preview, "walk", lambda *_, **__: answers.wait())
    monkeypatch.setattr(preview_command, "SECONDS_TO_LIST", 0.05)
    try:
        preview_command.show_if_large(load_settings(), said.append)
    finally:
        answers.set()
    assert said == ["No preview: to list the library takes longer than 0.05 s"]


def test_up_shows_the_preview_of_a_large_new_library_only(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    preview_command.show_if_large(load_settings(), said.append)
    assert said == []
    monkeypatch.setattr(preview_command, "LARGE", 1)
    preview_command.show_if_large(load_settings(), said.append)
    assert "The library is new and has 2 documents" in said[0]
    assert any("time of the slot" in line for line in said)
    said.clear()
    (load_settings().home / "postgres" / "data").mkdir(parents=True, mode=0o700)
    os.chmod(load_settings().home, 0o700)
    preview_command.show_if_large(load_settings(), said.append)
    assert said == []
