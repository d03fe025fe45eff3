"""A pipeline file with mistakes is refused with the line, the column and the right word; so is one that others may write."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings, read_edited
from dagster_offload.settings.files import PipelineText
from tests.support.pipeline_file import written


def refused(text: str, **overrides: object) -> str:
    """The error for a pipeline file with this text, without the path of the file."""
    file = written(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value).replace(f"{file}:", "")


def test_a_file_with_a_json_schema_that_is_nested_too_deeply_is_refused_with_the_place_that_names_it() -> None:
    text = "stages:\n  p:\n    prompt: q\n    schema: deep.json\n"
    (written(text).parent / "deep.json").write_text("[" * 100_000)
    assert "4:13: " in (error := refused(text))
    assert "deep.json is not JSON: nested too deeply" in error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slots:\n  deep:\n    modell: x\n", "3:5: there is no key 'modell' in slots.deep: did you mean model?"),
        ("librarry: {path: x}\n", "1:1: there is no key 'librarry': did you mean library?"),
        ("on_recrod:\n  # hook:\n", "1:1: there is no key 'on_recrod': did you mean on_record?"),
        ("library: {ignroe: }\n", "1:11: there is no key 'ignroe' in library: did you mean ignore?"),
        ("stages: {classify: {clases: }}\n", "1:21: there is no key 'clases' in stages.classify: did you mean classes?"),
        (
            "on_record: {hook: {webhook: 'http://h', secrte: }}",
            "on_record.hook.secrte: a webhook sink has no key 'secrte': did you mean secret?",
        ),
        (
            "stages:\n  clasify: {}\n",
            "2:12: stages.clasify: a stage of your own needs the key 'prompt' (did you mean the built-in stage classify?)",
        ),
        ("library: {zzz: 1}", "1:11: there is no key 'zzz' in library: use one of path, cross_mounts, ignore"),
        ("slots: {deep: {concurrency: many}}", "1:29: slots.deep.concurrency: must be a whole number or 'auto' (it is 'many')"),
        ("slots: {deep: {concurrency: 0}}", "1:29: slots.deep.concurrency: must be at least 1 or 'auto' (it is 0)"),
        ("stages: {classify: {classes: 7}}", "1:30: stages.classify.classes: must be a list: [one, two]"),
        (
            "stages: {p: {prompt: q, answer: {a: string}, quotes: true, merge: ask}}",
            "stages.p: quotes cannot be checked in an answer that the model merges",
        ),
        ("stages: {title: {prompt: q, answer: {a: string}}}", "'title' is a name that this program uses itself"),
        ("stages:\n  pay:\n  classify:\n", "2:3: stages.pay: is empty: write the prompt and the answer below it"),
        ("stages: {classify: {classes: [a, '']}}", "1:30: stages.classify.classes: has an empty entry"),
        ("stages: {classify: {classes: [a, A]}}", "1:30: stages.classify.classes: names one class twice, 'a' and 'A'"),
        (
            "stages: {p: {prompt: q, answer: {a: string, model: string}}}",
            "1:52: stages.p.answer.model: 'model' is a name that records use themselves: choose another, such as 'the_model'",
        ),
        ("stages:\n  pay:\n  prompt: Q\n  answer: {a: string}\n", "4:11: stages.answer: this is a key of a stage, and no"),
        ("stages:\n  pay:\n  prompt: Q\n", "3:11: stages.prompt: this is a key of a stage, and no stage's name: are"),
        ("stages: {model: {prompt: q, answer: {a: dat}}}", "stages.model.answer.a: 'dat' is not a type"),
        (
            "stages:\n  p:\n    prompt: q\n    answer:\n      a: {type: integer, max: .inf}\n",
            "5:31: stages.p.answer.a.max: must be a finite number",
        ),
        (
            "stages:\n  p:\n    prompt: q\n    schema: {type: object, properties: {a: {anyOf: [true, {type: 'null'}]}}}\n",
            "4:13: stages.p.schema: properties.a.anyOf: must be a list of schemas",
        ),
        (
            "stages:\n  p:\n    prompt: q\n    schema: {type: object, required: true, properties: {a: {type: string}}}\n",
            "4:13: stages.p.schema: required: must be a list of names",
        ),
        ("a: Pay what: to whom?", "1:12: is not YAML: mapping values are not allowed here: a text with ': ' in it needs quotes"),
        ("a: x\n  b: c", "2:4: is not YAML: mapping values are not allowed here: is this line indented further than"),
        ("a:\n  b: x\n c: y", "is this line indented as the lines beside it?"),
        ("a:\n\tb: c", "2:1: is not YAML: found character '\\t' that cannot start any token: use spaces, not tabs"),
        ("a: `x`", "cannot start any token: a text that begins with this character needs quotes around it"),
        ("a: [string]?", "1:12: is not YAML: mapping keys are not allowed here: only the name of a type can end in `?`"),
        ("slots: 5", "1:8: slots: must be a section"),
        (
            "stages: {classify: {classes: [invoice, 7]}}",
            "1:40: stages.classify.classes.1: must be text: put it in quotes (it is 7)",
        ),
        ("slots: {deep: {url: macbook.local}}", "1:21: slots.deep.url: must start with http://"),
        ("language: a\nlanguage: b\n", "2:1: the key 'language' is here twice (first in line 1): remove one of them"),
        ("stages:\nstages:\n  a: {}\n", "2:1: the key 'stages' is here twice (first in line 1): move these lines there"),
        ("slots: {deep: {extra_body: {stream: true}}}", "1:28: slots.deep.extra_body: must not contain stream"),
        ("a: [1\nb: 2", "is not YAML"),
        ("\tlanguage: ko", "1:1: is not YAML"),
        ("- language", "1:1: the file must consist of `key: value` lines"),
        ("ko", "1:1: the file must consist of `key: value` lines"),
        ("language: ko\n---\nlanguage: en\n", "is not YAML"),
        ("language: !!python/object/apply:os.system [id]", "1:11: the tag 'python/object/apply:os.system' is not supported"),
        ("language: !secret x", "1:11: the tag '!secret' is not supported"),
        ("? [a, b]\n: 1", "1:3: a key must be a word"),
        ("<<: {language: ko}", "1:1: `<<` does not belong to YAML 1.2: write the keys out"),
        ("retry_after_minutes: " + "9" * 5000, "1:22: this is no value of the type int"),
        ("library: {cross_mounts: !!bool maybe}", "1:25: this is no value of the type bool"),
        (
            "slots:\n  deep:\n    url:http://x:1\n    model: m\n",
            "4:10: is not YAML: mapping values are not allowed here: is a colon missing in line 3, or the space after it?",
        ),
        ("ocr: off\nlanguage:ko\n", "2:1: is not YAML: this is no `key: value`: is a space missing after its colon?"),
        ("language:\tko", "1:10: is not YAML: found character '\\t' that cannot start any token: use spaces, not tabs"),
        ('ocr: off\nlanguage: "ko\nprefork: off\n', "2:11: is not YAML: the quote that begins here is not closed"),
        (
            "ocr: off\nslots: {deep: {url: x\nlanguage: ko\n",
            "is a comma missing before it, does the text need quotes, or is the bracket of line 2 not closed?",
        ),
        ("library: {ignore: [*.zip]}", "1:20: is not YAML: found undefined alias '.zip': a text that begins with * needs quotes"),
        (
            "library: {ignore: [!keep.zip ]}",
            "the tag '!keep.zip' is not supported: remove it; a text that begins with ! needs quotes",
        ),
        (
            'slots: {deep: {expected_model: "Qwen3\\.6"}}',
            "found unknown escape character '.': between double quotes, \\ has a meaning of its own",
        ),
        ("language: ko\n---\nocr: off\n", "2:1: is not YAML: a second document begins here: remove the line `---`"),
        ("library:\n  path /docs\n  ocr: x\n", "3:6: is not YAML: mapping values are not allowed here: is a colon missing in"),
        ("prefork:off\n\nslots:\n", "3:6: is not YAML: mapping values are not allowed here: is a colon missing in line 1"),
        ("a:\n  url:x\n  # c\n  model: m\n", "is this line indented as the lines beside it? Or is a colon missing in line 2, or"),
        ("a: - b\n", "1:4: is not YAML: sequence entries are not allowed here: a list begins on the next line, and a text"),
        ("[slots.deep]\nurl = 'x'\n", "2:1: is not YAML: the file must consist of `key: value` lines"),
        ("language：ko\nocr: off\n", "2:4: is not YAML: mapping values are not allowed here: is a colon missing in line 1"),
        ("ocr: off\nlanguage ko\n", "2:1: is not YAML: this is no `key: value`: is its colon (:) missing, or is it a line of"),
        ("a:\n  b: |\n  Text?\n  c: d\n", "3:3: is not YAML: this is no `key: value`: is its colon (:) missing, or is it a"),
        ("ocr: off\nlanguage:\u00a0ko\n", "2:1: is not YAML: this is no `key: value`: the space U+00A0 after its colon"),
        ("language: k\u2028o\nx:\n  - a\n  -b\n", "4:3: is not YAML: this is no `key: value`: is a space missing"),
        ("library:\n  ignore:\n  - a\n  -b\n", "4:3: is not YAML: this is no `key: value`: is a space missing after its -?"),
        ('language: "ko\nocr: "off"\n', "2:7: is not YAML: expected <block end>, but found '<scalar>': put quotes around"),
        ("a: 'What's due?'\n", "1:10: is not YAML: expected <block end>, but found '<scalar>': put quotes around the whole text"),
        ("a: [Qq]wen\n", "1:8: is not YAML: expected <block end>, but found '<scalar>': put quotes around the whole text"),
        ("slots: {deep: {}}}\n", "1:18: is not YAML: expected <block end>, but found '}': is this bracket one too many?"),
        ("a: | What?\n  b\n", "1:6: is not YAML: expected a comment or a line break, but found 'W': the text after | or >"),
        ("slots: {deep: {url: ${URL}}}", "1:22: is not YAML: expected ',' or '}', but got '{': is a comma missing before"),
        ("slots: {deep: {url: {{ URL }}}}", "1:22: a key must be a word; a text that begins with { or [ needs quotes"),
        (
            "language: ko\nocr: o\x07ff",
            "2:7: is not YAML: the character U+0007 is not allowed: remove it, or save the file as UTF-8",
        ),
        ("slots:\n\u00a0 deep:\n", "2:1: this begins with the space U+00A0 of copied text: type the spaces anew"),
        ("stages: {classify: {classes: [a, null]}}", "classes.1: must be text: write it, or remove the entry (null and ~"),
        (
            "stages:\n  classify:\n    classes:\n    - a: b\n",
            "4:7: stages.classify.classes.0: must be one text: put it in quotes if it has ': '",
        ),
        ("slots: {deep: {api_key: '${MY-KEY}'}}", "1:25: slots.deep.api_key: '${' is not followed by the name of a variable"),
        ("slots: {deep: {api_key: '${KEY:-none}'}}", "1:25: slots.deep.api_key: '${' is not followed by the name of a variable"),
        ('library: {path: "/tmp\\0x"}', "1:17: must not contain U+0000: write the character"),
        ('library: {ignore: ["\\ud83d\\ude00"]}', "1:20: must not contain U+D83D: write the character that is meant itself"),
        ("library: {ignore: 5}", "1:19: library.ignore: must be a list: [one, two] (it is 5)"),
        ("backup: {every: 5}", "1:17: backup.every: must be a number and a unit: 30m, 12h, 1d or 1w"),
        ("slots: {deep: {wake: {command: [sh, -c, 'echo ${1}']}}}", "letters, digits and _ only, and begins with no digit"),
        ("on_record: {a: {command: [sh, 5]}}", "1:31: on_record.a.command.1: must be text: put it in quotes"),
        ("on_record: {a: {webhook: 'http://x', timeout: x}}", "1:47: on_record.a.timeout: must be a number"),
        ("notify: {a: {ntfy: 'http://x', events: [5]}}", "notify.a.events.0: must be 'done', 'needs_you', 'misconfigured' or"),
        ("stages: {p: {prompt: q, schema: '.'}}", "cannot be read: Is a directory"),
        ("keep: {history_days: 9999999}", "1:22: keep.history_days: must be at most 2000000 (it is 9999999)"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_place_and_the_right_word(text: str, error: str) -> None:
    assert error in refused(text)


def test_all_wrong_values_are_reported_together() -> None:
    message = refused("langage: ko\nocr: maybe\n", deep_concurrency="0")
    assert "1:1: there is no key 'langage': did you mean language?" in message
    assert "2:6: ocr: must be 'auto' or 'off' (it is " in message
    assert "OFFLOAD_DEEP_CONCURRENCY: " in message


def test_a_secret_that_is_no_text_has_one_fault() -> None:
    assert refused("slots: {deep: {api_key: 5}}") == "1:25: slots.deep.api_key: must be text: put it in quotes"


def test_several_faults_of_one_place_are_separate_messages() -> None:
    file = written("slots: {1e3: {url: 'http://x:1', model: m}}")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    first, second, third = map(str, caught.value.args)
    assert first.endswith("use at most 40 lower-case letters, digits and _, and begin with a letter")
    assert second.startswith(f"{file}:1:14: slots.1e3: there are further slots only beside deep")
    assert third.startswith(f"{file}:1:14: slots.1e3: no stage names this slot")


@pytest.mark.parametrize("line", ["OFFLOAD_LANGUAGE ko", 'OFFLOAD_LANGUAGE="ko', "export OFFLOAD_LANGUAGE: ko"])
def test_a_setting_in_dotenv_that_cannot_be_read_is_refused_with_its_line(line: str) -> None:
    Path(".env").write_text(f"# mine\nOTHER: of another program\n\n\n{line}\n")
    with pytest.raises(SettingsError, match=r"\.env:5: is not NAME=value: is the = missing, or is a quote not closed"):
        load_settings()


@pytest.mark.parametrize("line", ["OTHER bar  # as OFFLOAD_LANGUAGE", "MY_OFFLOAD_KEY bar", "OFFLOAD_LANGUAGE="])
def test_a_line_in_dotenv_that_sets_no_setting_is_no_fault(line: str) -> None:
    Path(".env").write_text(f"{line}\nOFFLOAD_OCR=off\n")
    assert load_settings().ocr == "off"


def test_every_wrong_field_name_and_slot_of_the_stages_is_reported_together() -> None:
    message = refused(
        """
stages:
  pay:
    prompt: What?
    answer: {a: dat, b: [], c: {d: 5}, "e=f": string, good: string}
    slots: [deeep]
  records: {prompt: What?, answer: {a: string}}
  text: {prompt: What?, answer: {model: string, at: date}}
"""
    )
    for fault in (
        "5:17: stages.pay.answer.a: 'dat' is not a type (did you mean date?)",
        "5:25: stages.pay.answer.b: a list has exactly one type",
        "5:36: stages.pay.answer.c.d: must be a type",
        "5:47: stages.pay.answer.e=f: a field's name must not contain '='",
        "stages.pay.slots: there is no slot 'deeep': did you mean deep?",
        "7:12: stages.records: 'records' is a name that this program uses itself",
        "8:9: stages.text: 'text' is a name that this program uses itself",
        "8:41: stages.text.answer.model: 'model' is a name that records use themselves",
        "8:53: stages.text.answer.at: 'at' is a name that records use themselves",
    ):
        assert fault in message
    assert message.count(": stages.") == 9


def test_every_mistake_between_stages_is_reported_together() -> None:
    message = refused(
        "stages: {a: {prompt: q, answer: {a: string}, reads: b}, c: {prompt: q, answer: {a: string}, reads: d}}"
    )
    assert "stages.a.reads: there is no stage 'b'" in message
    assert "stages.c.reads: there is no stage 'd'" in message


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
        "a: &a [*a]\n",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 5000 + "}" * 5000,
    ],
    ids=["billion laughs", "endless", "deep list", "deep mapping"],
)
def test_a_file_that_would_exhaust_the_memory_is_refused(bomb: str) -> None:
    assert "nested" in refused(bomb)


def test_a_file_that_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "larger than 256,000 bytes" in refused("#" * 256_001)
    Path("offload.yaml").unlink()
    os.mkfifo("offload.yaml", 0o600)
    with pytest.raises(SettingsError, match="it is not a file"):
        load_settings()
    Path("offload.yaml").unlink()
    Path("offload.yaml").mkdir(0o700)
    with pytest.raises(SettingsError, match=r"offload\.yaml cannot be read: Is a directory"):
        load_settings()


def test_a_file_that_is_not_utf8_is_refused_with_the_line() -> None:
    Path("offload.yaml").write_bytes(b"language: ko\nocr: \xff\n")
    with pytest.raises(SettingsError, match=r"offload\.yaml:2: cannot be read: it is not UTF-8"):
        load_settings()


@pytest.mark.rule("pipeline-3")
def test_a_file_that_others_may_write_is_refused() -> None:
    file = written("language: ko", mode=0o602)
    with pytest.raises(SettingsError, match="can be written by everybody, so another user can choose your settings"):
        load_settings()
    file.chmod(0o644)
    assert load_settings().language == "ko"


@pytest.mark.parametrize(
    "text",
    [
        "slots: {deep: {api_key: s3cret}}",
        "slots: {primary: {url: 'http://me:s3cret@host'}}",
        "postgres_url: postgresql://me:s3cret@host/db",
        "celery: {broker: 'redis://:s3cret@host:6379/0'}",
    ],
)
def test_a_secret_in_a_file_that_others_may_read_is_refused_and_not_shown(text: str) -> None:
    file = written(text, mode=0o644)
    with pytest.raises(SettingsError, match="contains a secret, and the file can be read by everybody") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)
    assert f"chmod 600 {file}" in str(caught.value)
    file.chmod(0o600)
    load_settings(primary_model="m")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("slots: {deep: {api_key: s3cret}}", "write ${VARIABLE} instead, use api_key_file, or run chmod"),
        ("notify: {m: {email: a@b.c, server: s, password: s3cret}}", "instead, use password_file, or run chmod"),
        ("postgres_url: postgresql://me:s3cret@host/db", "write ${VARIABLE} instead, or run chmod"),
    ],
)
def test_a_file_is_offered_for_a_secret_only_where_a_key_names_one(text: str, instead: str) -> None:
    written(text, mode=0o644)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert instead in str(caught.value)


def test_a_wrong_reference_in_a_file_that_others_may_read_is_no_secret() -> None:
    file = written("slots: {deep: {api_key: '${MY-KEY}'}}", mode=0o644)
    with pytest.raises(SettingsError, match=r"'\${' is not followed by the name of a variable") as caught:
        load_settings()
    assert str(caught.value).startswith(f"{file}:1:25: slots.deep.api_key: ")


@given(st.text("slotdep:{}[]&*!|>-#'\"\n ,%@`?~<=\\\t09.é한", max_size=60) | st.text(max_size=30))
@example("slots: {deep: {url: !!binary x}}")
@example("%YAML 9.9\n---\na: 1")
@example("!<tag:yaml.org,2002:int> x: 1")
@example("slots: !!map {deep: !!set {a}}")
@example("a: !!int x")
@example("a: !!float '1_'")
@example("a: 0o9\nb: 1e999\nc: .inf\nd: -.nan")
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    with contextlib.suppress(SettingsError):
        read_edited(PipelineText(Path("offload.yaml"), text, None), Path("offload.yaml"))
