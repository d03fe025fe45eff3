"""The pipeline file: where it is found, what overrides it, and errors that name the line, the column and the right word."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings, load_settings, loading, read_edited, read_settings
from dagster_offload.settings.files import PipelineText
from dagster_offload.settings.leaves import LEAVES

SLOT = "slots:\n  deep:\n    url: http://macbook.local:8890\n    model: from-file\n"


def written(text: str, path: Path | str = "offload.yaml", mode: int = 0o600) -> Path:
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def refused(text: str, **overrides: object) -> str:
    """The error for a pipeline file with this text, without the path of the file."""
    file = written(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value).replace(f"{file}:", "")


def deep_model(settings: Settings) -> str | None:
    return settings.slots_section.deep.model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLOAD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_kind_of_value_is_read_from_the_file(tmp_path: Path) -> None:
    written(
        """
library:
  path: documents           # relative to the file
  max_file_size: 2 MiB
slots:
  deep: {url: "http://macbook.local:8890/v1", model: qwen-macbook, concurrency: auto, extra_body: {top_p: 0.8}}
stages:
  classify:
    classes: [invoice, letter]
    slots: any
language: no                # Norwegian: YAML 1.2 has no such boolean
retry_after_minutes: 5
"""
    )
    settings = load_settings()
    deep = settings.slots.deep
    assert deep is not None
    assert (deep.url, deep.concurrency, deep.extra_body) == ("http://macbook.local:8890", "auto", {"top_p": 0.8})
    assert settings.library == tmp_path / "documents"
    assert settings.library_section.max_file_size == 2 * 1024**2
    assert (settings.stages.classify.classes, settings.stages.classify.slots) == (("invoice", "letter"), "any")
    assert settings.stages.summarize.slots == "deep"
    assert (settings.language, settings.retry_after_minutes) == ("no", 5)


@pytest.mark.rule("pipeline-2")
def test_options_override_the_environment_then_dotenv_then_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written(SLOT)
    assert deep_model(load_settings()) == "from-file"
    written("OFFLOAD_DEEP_MODEL=from-dotenv\n", ".env")
    assert deep_model(load_settings()) == "from-dotenv"
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "from-environment")
    assert deep_model(load_settings()) == "from-environment"
    assert deep_model(load_settings(deep_model="from-option")) == "from-option"
    assert load_settings().slots_section.deep.url == "http://macbook.local:8890", "the rest of the section stays"


def test_the_file_is_found_by_variable_then_in_the_working_folder_then_in_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().file is None
    in_home = written("language: home", home / "offload.yaml")
    assert (read_settings().file, load_settings().language) == (in_home, "home")
    here = written("language: here")
    assert (read_settings().file, load_settings().language) == (here, "here")
    named = written("language: named", "elsewhere/own.yaml")
    monkeypatch.setenv("OFFLOAD_CONFIG", "elsewhere/own.yaml")
    assert (read_settings().file, load_settings().language) == (named, "named")
    monkeypatch.setenv("OFFLOAD_CONFIG", "missing.yaml")
    with pytest.raises(SettingsError, match=r"missing\.yaml cannot be read: No such file"):
        load_settings()


def test_a_deleted_working_folder_has_no_settings(home: Path, tmp_path: Path) -> None:
    written("language: home", home / "offload.yaml")
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load_settings().language == "home"
    os.chdir(tmp_path)


def test_relative_paths_start_at_the_real_folder_of_the_file(home: Path, tmp_path: Path) -> None:
    written("library: {path: documents}", tmp_path / "project/offload.yaml")
    home.mkdir(mode=0o700)
    (home / "offload.yaml").symlink_to(tmp_path / "project/offload.yaml")
    assert load_settings().library == tmp_path / "project/documents"


def test_a_file_in_the_default_home_cannot_name_another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "default"
    monkeypatch.setattr(loading, "default_home", lambda: home)
    written("home: /elsewhere", home / "offload.yaml")
    with pytest.raises(SettingsError, match="home names another folder"):
        load_settings()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}", "slots:\nstages:\n"])
def test_an_empty_file_has_only_defaults(text: str) -> None:
    without_file = load_settings()
    written(text)
    assert load_settings() == without_file


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slots:\n  deep:\n    modell: x\n", "3:5: there is no key 'modell' in slots.deep: did you mean model?"),
        ("librarry: {path: x}\n", "1:1: there is no key 'librarry': did you mean library?"),
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
        ("a: Pay what: to whom?", "1:12: is not YAML: mapping values are not allowed here: a text with ': ' in it needs quotes"),
        ("a: x\n  b: c", "2:4: is not YAML: mapping values are not allowed here: is this line indented further than"),
        ("a:\n  b: x\n c: y", "is this line indented as the lines beside it?"),
        ("a:\n\tb: c", "2:1: is not YAML: found character '\\t' that cannot start any token: indent with spaces"),
        ("a: `x`", "cannot start any token: a text that begins with this character needs quotes around it"),
        ("a: [string]?", "1:12: is not YAML: mapping keys are not allowed here: only the name of a type can end in `?`"),
        ("slots: 5", "1:8: slots: must be a section"),
        ("stages: {classify: {classes: [invoice, 7]}}", "1:40: stages.classify.classes.1: must be text: put a number"),
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
        ("<<: {language: ko}", "1:1: there is no key '<<'"),
        ("retry_after_minutes: " + "9" * 5000, "1:22: is not a int"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_place_and_the_right_word(text: str, error: str) -> None:
    assert error in refused(text)


def test_all_wrong_values_are_reported_together() -> None:
    message = refused("langage: ko\nocr: maybe\n", deep_concurrency="0")
    assert "1:1: there is no key 'langage': did you mean language?" in message
    assert "2:6: ocr: must be 'auto' or 'off' (it is " in message
    assert "OFFLOAD_DEEP_CONCURRENCY: " in message


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
        "5:17: stages.pay.answer.a: 'dat' is not a type (did you mean 'date'?)",
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


def test_a_variable_in_the_file_is_replaced_from_the_environment_or_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    written(SLOT + "    api_key: ${MACBOOK_KEY}\n    expected_model: $${x}\n", mode=0o644)
    with pytest.raises(SettingsError, match=r"5:14: slots\.deep\.api_key: the variable MACBOOK_KEY is not set"):
        load_settings()
    written("MACBOOK_KEY=from-dotenv\n", ".env")
    deep = load_settings().slots.deep
    assert deep is not None
    assert (deep.api_key, deep.expected_model) == ("from-dotenv", "${x}")
    monkeypatch.setenv("MACBOOK_KEY", "from-environment")
    deep = load_settings().slots.deep
    assert deep is not None
    assert deep.api_key == "from-environment"


def test_the_text_of_stages_is_taken_as_it_is() -> None:
    written("stages: {classify: {classes: ['${HOME}']}}")
    assert load_settings().stages.classify.classes == ("${HOME}",)


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
    ("name", "hint"),
    [
        ("OFFLOAD_DEEP_MODLE", "did you mean OFFLOAD_DEEP_MODEL?"),
        ("OFFLOAD_DEEP", "did you mean OFFLOAD_DEEP_"),
        ("OFFLOAD_LIBARY", "did you mean OFFLOAD_LIBRARY?"),
        ("OFFLOAD_QQQQQQQQQQQQQQQQQQQQQ", "`dagster-offload config show` lists the variables"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=f"{name} is not a setting: ") as caught:
        load_settings()
    assert hint in str(caught.value)
    monkeypatch.delenv(name)
    written(f"{name}=x\n", ".env")
    with pytest.raises(SettingsError, match=rf"{name} in \.env is not a setting"):
        load_settings()


def test_a_misspelt_stage_in_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_ANY_STAGES", "clasify")
    with pytest.raises(SettingsError, match="OFFLOAD_ANY_STAGES: there is no stage 'clasify': did you mean classify"):
        load_settings()


def test_the_variable_for_any_stages_overrides_the_slots_of_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    written("stages: {classify: {slots: any}}")
    monkeypatch.setenv("OFFLOAD_ANY_STAGES", "summarize")
    stages = load_settings().stages
    assert (stages.classify.slots, stages.summarize.slots) == ("deep", "any")


def test_each_value_knows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(SLOT)
    written("OFFLOAD_OCR=off\n", ".env")
    monkeypatch.setenv("OFFLOAD_LANGUAGE", "ko")
    loaded = read_settings(deep_model="m")
    found = {leaf.dotted: str(loaded.origin(leaf)) for leaf in LEAVES}
    assert found["slots.deep.url"] == f"{file}:3:10"
    assert found["slots.deep.model"] == "option OFFLOAD_DEEP_MODEL"
    assert found["language"] == "environment OFFLOAD_LANGUAGE"
    assert found["ocr"] == ".env OFFLOAD_OCR"
    assert found["library.path"] == "default"


SLOT_VARIABLES = """
URL MODEL EXPECTED_MODEL API_KEY API_KEY_FILE CA_FILE CONCURRENCY MAX_CALL_SECONDS HEALTH_PATH CONNECT_TIMEOUT READ_TIMEOUT
CONTEXT_TOKENS EXTRA_BODY
"""
OTHER_VARIABLES = """
HOME LIBRARY LIBRARY_CROSS_MOUNTS POSTGRES_URL ANY_STAGES CLASSES LANGUAGE OCR OCR_LANGUAGES MAX_FILE_SIZE
RETRY_AFTER_MINUTES PREFORK SCAN_INTERVAL
"""


def test_every_setting_has_a_description_and_every_released_variable_exists() -> None:
    assert [leaf.dotted for leaf in LEAVES if not leaf.field.description] == []
    slots = {f"OFFLOAD_{name}_{field}" for name in ("DEEP", "PRIMARY") for field in SLOT_VARIABLES.split()}
    assert {leaf.variable for leaf in LEAVES} >= slots | {f"OFFLOAD_{name}" for name in OTHER_VARIABLES.split()}


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
