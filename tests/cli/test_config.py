"""`config` and `init`: where each value comes from, edits that keep comments, and files for people and editors."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_offload.settings import load_settings
from dagster_offload.settings.leaves import LEAVES
from dagster_offload.settings.writing import HEADER
from dagster_offload.stage_spec.relations import BUILT_IN_CLASSES
from tests.support.cli import Call

FILE = """\
# My pipeline
slots:
    deep:   # the laptop
        url: "http://macbook.local:8890"   # wifi
        model: 'qwen'
        api_key: s3cret
stages:
    classify:
        classes:
            - invoice  # paid by me
            - letter
"""
NO_LIBRARY = "the library /nowhere cannot be listed: no such file or directory"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "offload.yaml"
    file.write_text(FILE)
    file.chmod(0o600)
    return file


def rows(call: Call, *options: str) -> dict[str, dict[str, object]]:
    shown = call("config", "show", "--json", *options)
    assert shown.exit_code == 0, shown.output
    return {row["key"]: row for row in json.loads(shown.stdout)["settings"]}


def test_show_has_every_setting_with_its_value_and_origin_and_no_secret(file: Path, call: Call) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = "postgresql://me:s3cret@host/db"
    found = rows(call, "--deep-model", "typed")
    assert set(found) == {leaf.dotted for leaf in LEAVES}
    assert (found["slots.deep.url"]["value"], found["slots.deep.url"]["origin"]) == (
        "http://macbook.local:8890",
        f"{file}:4:14",
    )
    assert (found["slots.deep.model"]["value"], found["slots.deep.model"]["source"]) == ("typed", "option")
    assert (found["ocr"]["value"], found["ocr"]["origin"]) == ("off", "environment OFFLOAD_OCR")
    assert found["slots.deep.api_key"]["value"] == found["postgres_url"]["value"] == "(hidden)"
    assert found["stages.classify.classes"]["value"] == ["invoice", "letter"]
    assert found["language"]["source"] == "default"
    as_text = call("config", "show").output
    assert "s3cret" not in as_text + json.dumps(found)
    assert "invoice, letter" in as_text


def test_show_lists_the_built_in_classes(call: Call) -> None:
    os.environ["OFFLOAD_CLASSES"] = " "
    assert rows(call)["stages.classify.classes"]["value"] == list(BUILT_IN_CLASSES), "empty = the built-in ones"
    assert "invoice, letter, contract" in " ".join(call("config", "show").output.split())


def test_show_hides_the_password_of_a_url(call: Call) -> None:
    os.environ |= {"OFFLOAD_DEEP_URL": "http://me:s3cret@host:1", "OFFLOAD_DEEP_MODEL": "m"}
    assert rows(call)["slots.deep.url"]["value"] == "http://host:1"


def test_check_names_the_place_of_each_fault(file: Path, call: Call) -> None:
    assert call("config", "check").output == f"{file}: valid\n"
    file.write_text(FILE.replace("model:", "modell:") + "prefork: maybe\n")
    checked = call("config", "check", "--json")
    assert checked.exit_code == 2
    error = json.loads(checked.stdout)["error"]
    assert f"{file}:5:9: there is no key 'modell' in slots.deep: did you mean model?" in error
    assert f"{file}:12:10: prefork: " in error


def test_check_prints_no_warning_of_a_library_about_an_anchor(file: Path) -> None:
    file.write_text("language: &x ko\nocr: &x off\n")
    checked = subprocess.run(
        [sys.executable, "-m", "dagster_offload.cli", "config", "check"], capture_output=True, text=True, check=True
    )
    assert checked.stderr == ""


def test_check_warns_of_a_library_that_does_not_exist(file: Path, call: Call) -> None:
    file.write_text(f"{FILE}library: {{path: /nowhere}}\n")
    checked = call("config", "check")
    assert (checked.exit_code, checked.stderr) == (0, f"warning: {NO_LIBRARY}\n")
    assert json.loads(call("config", "check", "--json").stdout)["warnings"] == [NO_LIBRARY]


def test_set_warns_of_a_library_that_does_not_exist_and_takes_it(file: Path, tmp_path: Path, call: Call) -> None:
    changed = call("config", "set", "library.path", "/nowhere")
    assert (changed.exit_code, changed.stderr) == (0, f"warning: {NO_LIBRARY}\n")
    assert load_settings().library == Path("/nowhere")
    assert json.loads(call("config", "set", "library.path", "/nowhere", "--json").stdout)["warnings"] == [NO_LIBRARY]
    assert call("config", "set", "prefork", "off").stderr == "", "another setting is not about the library"
    assert call("config", "set", "library.path", str(tmp_path)).stderr == ""


def test_set_warns_of_no_library_that_another_setting_overrides(file: Path, tmp_path: Path, call: Call) -> None:
    os.environ["OFFLOAD_LIBRARY"] = str(tmp_path)
    (line,) = call("config", "set", "library.path", "/nowhere").stderr.splitlines()
    assert line.startswith("warning: it has no effect here")


def test_set_changes_one_value_and_keeps_everything_else(file: Path, call: Call) -> None:
    changed = call("config", "set", "slots.deep.model", "qwen-macbook")
    assert (changed.exit_code, changed.output) == (0, f"{file}: slots.deep.model is now qwen-macbook (it was qwen)\n")
    assert file.read_text() == FILE.replace("model: 'qwen'", "model: qwen-macbook")
    assert file.stat().st_mode & 0o777 == 0o600


def test_set_reads_values_in_the_type_of_their_setting(file: Path, call: Call) -> None:
    for key, value in (
        ("OFFLOAD_CLASSES", "tax, letter"),
        ("slots.deep.concurrency", "4"),
        ("slots.deep.expected_model", "27"),
        ("library.cross_mounts", "true"),
        ("library.path", "~/docs"),
        ("slots.deep.extra_body", '{"top_p": 0.8}'),
        ("slots.primary.api_key", "${SMALL_KEY}"),
    ):
        assert call("config", "set", key, value, env={"SMALL_KEY": "k"}).exit_code == 0, key
    os.environ["SMALL_KEY"] = "k"
    settings = load_settings()
    assert settings.stages.classify.classes == ("tax", "letter")
    assert settings.library_section.cross_mounts
    assert settings.library == Path("~/docs").expanduser()
    assert settings.slots.deep is not None
    assert (settings.slots.deep.concurrency, settings.slots.deep.expected_model) == (4, "27")
    assert settings.slots.deep.extra_body == {"top_p": 0.8}
    assert "# the laptop" in file.read_text()
    assert "k" not in file.read_text().split()


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("slots.deep.concurency", "4", "did you mean slots.deep.concurrency?"),
        ("concurrency", "4", "did you mean slots.deep.concurrency?"),
        ("slots.deep.concurrency", "0", "slots.deep.concurrency: must be at least 1 or 'auto' (it is 0)"),
        ("slots.deep.url", "macbook", "slots.deep.url: must start with http://"),
        ("library.max_file_size", "[", "is not YAML"),
        ("slots.deep.api_key", "hidden", "every user of this machine can read the arguments"),
        ("slots.deep.url", "http://me:hidden@host", "every user of this machine can read the arguments"),
    ],
)
def test_set_refuses_a_wrong_key_or_value_and_leaves_the_file(
    file: Path, call: Call, key: str, value: str, error: str
) -> None:
    refused = call("config", "set", key, value)
    assert refused.exit_code == 2
    assert error in " ".join(refused.stderr.split())
    assert "hidden" not in refused.stderr
    assert file.read_text() == FILE
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no temporary file is left"


def test_set_refuses_a_wrong_value_that_a_variable_hides_now(file: Path, call: Call) -> None:
    os.environ["OFFLOAD_DEEP_CONCURRENCY"] = "2"
    refused = call("config", "set", "slots.deep.concurrency", "many")
    assert refused.exit_code == 2
    assert "slots.deep.concurrency: must be a whole number or 'auto' (it is 'many')" in refused.stderr
    assert refused.stderr.endswith("dagster-offload: nothing was changed\n")
    assert file.read_text() == FILE


def test_set_shows_the_value_before_and_after(file: Path, call: Call) -> None:
    assert (
        "slots.deep.concurrency is now 4 (it was the default, 1)"
        in call("config", "set", "slots.deep.concurrency", "4").stdout
    )
    assert "is now x (it was not set)" in call("config", "set", "slots.deep.expected_model", "x").stdout
    assert "is now true (it was the default, false)" in call("config", "set", "library.cross_mounts", "true").stdout
    assert re.search(r"library\.cross_mounts +true ", call("config", "show").stdout)
    assert "is now auto (it was 4)" in call("config", "set", "slots.deep.concurrency", "auto").stdout
    found = json.loads(call("config", "set", "slots.deep.concurrency", "2", "--json").stdout)
    assert (found["before"], found["after"]) == ("auto", 2)


def test_set_warns_if_a_variable_overrides_the_value(file: Path, call: Call) -> None:
    assert "environment OFFLOAD_OCR overrides it" in call("config", "set", "ocr", "auto").stderr


def test_set_creates_the_file_of_the_home(call: Call, tmp_path: Path) -> None:
    assert call("config", "path").output == f"{tmp_path}/home/offload.yaml\n"
    assert call("config", "set", "language", "ko").exit_code == 0
    assert json.loads(call("config", "path", "--json").stdout) == {
        "path": f"{tmp_path}/home/offload.yaml",
        "exists": True,
    }
    assert load_settings().language == "ko"


def test_set_follows_a_link(file: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    link = tmp_path / "home/offload.yaml"
    link.symlink_to(file)
    assert call("config", "set", "language", "ko", "--config", str(link)).exit_code == 0
    assert link.is_symlink()
    assert "language: ko" in file.read_text()


def test_the_schema_describes_every_key(call: Call) -> None:
    schema = json.loads(call("config", "schema").stdout)

    def keys(part: dict[str, object], above: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        while "$ref" in part:
            part = part | schema["$defs"][str(part["$ref"]).rpartition("/")[2]]
            del part["$ref"]
        properties = part.get("properties")
        if not isinstance(properties, dict):
            return {above: part.get("description")}
        # Below `slots`, `stages`, `on_record` and `notify`, other keys are names that the user chooses.
        assert part["additionalProperties"] is False or above in ("slots", "stages", "on_record", "notify")
        for name, each in properties.items():
            found |= keys(each, f"{above}.{name}".removeprefix("."))
        return found

    found = keys(schema)
    assert set(found) == {leaf.dotted for leaf in LEAVES}
    assert all(found.values())


def test_init_writes_a_valid_file_with_every_setting_and_asks_nothing_when_piped(call: Call, tmp_path: Path) -> None:
    written = call("init", input="")
    file = tmp_path / "home/offload.yaml"
    assert (written.exit_code, file.stat().st_mode & 0o777) == (0, 0o600)
    assert str(file) in written.output
    text = file.read_text()
    assert f"# home: {tmp_path}/home  # " in text
    for leaf in LEAVES:
        assert f"{leaf.key[-1]}:" in text
        assert str(leaf.field.description) in text
    assert load_settings() == load_settings(config=file)
    again = call("init")
    assert again.exit_code == 2
    assert "exists: edit it" in again.stderr
    assert file.read_text() == text


def test_the_defaults_in_the_file_of_init_are_the_defaults(call: Call, tmp_path: Path) -> None:
    before = load_settings()
    file = tmp_path / "offload.yaml"
    assert call("init", str(file)).exit_code == 0
    settings = file.read_text().removeprefix(HEADER)
    file.write_text(re.sub(r"^( *)# (?!home)(\w+:)", r"\1\2", settings, flags=re.MULTILINE))
    assert "\n    concurrency: 1" in file.read_text()
    assert load_settings() == before


def test_set_puts_a_value_in_the_place_of_its_comment(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "offload.yaml"
    assert call("init", str(file)).exit_code == 0
    before = file.read_text()
    assert call("config", "set", "slots.primary.model", "small").exit_code == 0
    assert call("config", "set", "language", "ko").exit_code == 0
    changed = set(file.read_text().splitlines()) - set(before.splitlines())
    assert changed == {
        "    model: small  # model name to send in requests",
        "language: ko  # language of the records: `ko`, `English`; unset = the document's language",
    }
    assert len(file.read_text().splitlines()) == len(before.splitlines())


def test_init_takes_options(call: Call, tmp_path: Path) -> None:
    options = ("--library", "docs: a", "--deep-url", "http://macbook.local:8890", "--deep-model", "q")
    assert call("init", "own.yaml", *options).exit_code == 0
    for name in ("OFFLOAD_LIBRARY", "OFFLOAD_DEEP_URL", "OFFLOAD_DEEP_MODEL"):
        del os.environ[name]
    settings = load_settings(config="own.yaml")
    assert settings.library == tmp_path / "docs: a"
    assert settings.slots.deep is not None
    assert settings.slots.deep.model == "q"


def test_init_asks_on_a_terminal(library: Path, tmp_path: Path) -> None:
    del os.environ["OFFLOAD_LIBRARY"]
    terminal, its_end = os.openpty()
    command = (sys.executable, "-m", "dagster_offload.cli", "init", "own.yaml")
    with subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True) as process:
        os.close(its_end)
        os.write(terminal, f"{library}\nhttp://macbook.local:8890\n\n".encode())
        shown = b""
        with contextlib.suppress(OSError):  # Linux reports the end of the other side as an error
            while part := os.read(terminal, 4096):
                shown += part
    os.close(terminal)
    assert process.returncode == 0, shown
    assert b"Folder of documents" in shown
    settings = load_settings(config="own.yaml")
    assert settings.library == library
    assert settings.slots.deep is not None
    assert (settings.slots.deep.url, settings.slots.deep.model) == ("http://macbook.local:8890", "qwen-macbook")


def test_set_names_the_line_of_what_is_edited_in_the_file(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.yaml"
    monkeypatch.setenv("OFFLOAD_CONFIG", str(file))
    file.write_text("stages:\n  payment:\n    prompt: What must be paid?\n    answer: {amount: number}\n")
    refused = call("config", "set", "stages.payment.prompt", "What?")
    assert refused.exit_code == 2
    assert f"stages of your own are edited in the file itself: {file}:3:5" in " ".join(refused.stderr.split())
    refused = call("config", "set", "on_record.hook.url", "http://localhost")
    assert f"sinks are edited in the file itself: {file}" in " ".join(refused.stderr.split())
