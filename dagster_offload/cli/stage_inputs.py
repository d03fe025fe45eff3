"""What the commands of `stage` work on: the stage, the documents and their texts, and expected answers."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.find_document import find_document
from dagster_offload.cli.options import document_key, no_such_document
from dagster_offload.cli.text import extract_file
from dagster_offload.text.normal_form import in_nfc
from dagster_offload.text.suggestions import suggestion

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings
    from dagster_offload.stages.graph import StageNode
    from dagster_offload.stages.llm_stage import LLMStage

DOCUMENTS_A_LOOK = 500  # of a sample, of which some may not meet the condition


def stage_named(settings: "Settings", name: str, prompt_file: Path | None) -> "LLMStage":
    """The stage, with another prompt if one is given. Raises `Refusal` for a name that is not a stage of a slot."""
    from dagster_offload.stages.catalog import llm_stages
    from dagster_offload.stages.own import own_stage

    stages = llm_stages(settings)
    if name not in stages:
        raise Refusal(f"there is no stage {name!r}{suggestion(name, stages)}: use one of {', '.join(stages)}")
    if prompt_file is None:
        return stages[name]
    if name not in settings.own_stages:
        raise Refusal(f"--prompt-file is for stages of your own; {name} is built in")
    prompt = _read(prompt_file).strip()
    if not prompt:
        raise Refusal(f"{prompt_file} is empty")
    return own_stage(name, settings.own_stages[name].model_copy(update={"prompt": prompt}))


def key_of(settings: "Settings", ledger: "Ledger", file: Path) -> str:
    """The key of a file's document, or of the document that is called so. Raises `Refusal` if there is neither."""
    if file.exists():
        return document_key(settings.library, str(file))
    return find_document(settings, ledger, str(file))


def texts_of(
    settings: "Settings", stage: "StageNode", files: Iterable[Path]
) -> tuple[dict[Path, str | None], list[str]]:
    """The text of each file, None for the name of a document and for a stage that reads no text; and why others have none."""
    from dagster_offload.stages.graph import EXTRACT

    read: dict[Path, str | None] = {}
    refused = []
    for file in files:
        try:
            read[file] = text_of(settings, file) if stage.upstream == EXTRACT and file.exists() else None
        except Refusal as refusal:
            refused.append(refusal.message)
    return read, refused


def inputs_of_files(
    settings: "Settings", ledger: "Ledger", stage: "StageNode", read: "Mapping[Path, str | None]"
) -> tuple[dict[str, str], list[str]]:
    """What the stage reads of each file of `texts_of`, by the key of its document; and why there is nothing of others."""
    inputs: dict[str, str] = {}
    refused = []
    for file, text in read.items():
        try:
            key = key_of(settings, ledger, file)
            inputs |= inputs_of(ledger, stage, [key]) if text is None else {key: text}
        except Refusal as refusal:
            refused.append(refusal.message)
    return inputs, refused


def text_of(settings: "Settings", file: Path) -> str:
    """The text of a file. Raises `Refusal` if it has none."""
    from dagster_offload.errors import ExtractionFailed
    from dagster_offload.extraction.extractor import Extractor
    from dagster_offload.extraction.ocr.tesseract import find_reader

    if file.is_dir():
        raise Refusal(f"{file} is a folder: name a file")
    with Extractor(reader=find_reader(settings.ocr, settings.ocr_languages)) as extractor:
        try:
            found = extract_file(extractor, file)
        except ExtractionFailed as failed:
            raise Refusal(f"{file}: {failed.message}") from None
    if not found.text:
        raise Refusal(f"{file} has no text ({found.outcome})")
    return found.text


def sample_inputs(ledger: "Ledger", stage: "StageNode", ids: list[int], count: int) -> list[tuple[str, str]]:
    """The keys and inputs of the first `count` of these documents that the stage is asked about."""
    from dagster_offload.ledger.reports import texts

    if not ids:
        raise Refusal("no document has a text yet: run dagster-offload scan first")
    inputs: list[tuple[str, str]] = []
    for start in range(0, len(ids), DOCUMENTS_A_LOOK):
        inputs += ledger.run(texts.inputs_asked, stage, ids[start : start + DOCUMENTS_A_LOOK])
        if len(inputs) >= count:
            break
    if not inputs:
        raise Refusal(
            f"{stage.name} is asked about no document yet: what it reads is not done, or its condition is not met"
        )
    return inputs[:count]


def refuse_unknown_documents(ledger: "Ledger", documents: Iterable[str], file: Path) -> None:
    """Raise `Refusal` for the first of these keys, from `file`, that is not in the ledger."""
    from dagster_offload.ledger.reports import names, status

    for document in documents:
        if not ledger.run(names.is_document, document):
            raise Refusal(f"{file}: no such document: {no_such_document(document, ledger.run(status.unusable_names))}")


def inputs_of(ledger: "Ledger", stage: "StageNode", documents: list[str]) -> dict[str, str]:
    """What the stage reads of each document. Raises `Refusal` for one that has nothing of it."""
    from dagster_offload.ledger.reports import texts

    found = ledger.run(texts.inputs_of, stage, documents)
    if missing := [document for document in documents if document not in found]:
        raise Refusal(
            f"{missing[0]!r} has nothing that {stage.name} reads: is it in the library, scanned, and are the stages before done?"
        )
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} cannot be read as text in UTF-8: {error}") from None


def _fields(settings: "Settings", name: str) -> list[str]:
    """The fields of a stage's answer."""
    from dagster_offload.stage_spec.relations import BUILT_IN_FIELDS

    own = settings.own_stages.get(name)
    return list(BUILT_IN_FIELDS[name]) if own is None else [field.name for field in own.answer]


def read_expected(file: Path, settings: "Settings", stage: str) -> dict[str, dict[str, Any]]:
    """The expected fields by document, each value as records hold it. Raises `Refusal` with the line that is wrong."""
    from dagster_offload.errors import SettingsError
    from dagster_offload.stages.answers.corrections import expected_value

    known = _fields(settings, stage)
    expected: dict[str, dict[str, Any]] = {}
    # Not `splitlines`: a text in JSON may hold other ends of lines, such as U+2028.
    for number, line in enumerate(_read(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = in_nfc(json.loads(line))
            document = fields.pop("document")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Refusal(
                f'{file}:{number}: write an object with the document and its fields: {{"document": "a.pdf", ...}}'
            ) from None
        for field in fields.keys() - set(known):
            raise Refusal(
                f"{file}:{number}: the answer of {stage} has no field {field!r}{suggestion(field, known)}: "
                f"use one of {', '.join(known)}"
            )
        try:
            expected[document_key(settings.library, str(document))] = {
                field: expected_value(settings, stage, field, value) for field, value in fields.items()
            }
        except SettingsError as error:
            raise Refusal(f"{file}:{number}: no answer can have this value: {error}") from None
    if not expected:
        raise Refusal(f"{file} names no document")
    return expected
