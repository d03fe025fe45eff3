"""The image and its compose file: checked as far as possible without Docker."""

import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dagster_offload.cli import main
from dagster_offload.service.ui import health_check
from dagster_offload.settings.leaves import VARIABLES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def compose() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")
    return content


def instruction(name: str) -> str:
    [found] = re.findall(rf"^\s*{name} (.+)$", DOCKERFILE, re.MULTILINE)
    return str(found)


def test_the_image_starts_a_command_that_exists() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["dagster-offload"]
    name, *options = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])
    context = main.make_context("dagster-offload", [name])
    command = main.get_command(context, name)
    assert command is not None
    parsed = command.make_parser(context).parse_args(options)[0]
    assert (parsed["host"], parsed["port"]) == ("0.0.0.0", "3000")


def test_every_variable_of_the_image_and_the_compose_file_is_a_setting() -> None:
    used = set(re.findall(r"(OFFLOAD_\w+)=", DOCKERFILE)) | set(compose()["services"]["offload"]["environment"])
    assert used
    assert used <= VARIABLES


def test_the_image_does_not_run_as_root() -> None:
    assert instruction("USER") == "1000:1000"
    assert "useradd --uid 1000" in DOCKERFILE


def test_nothing_is_published_beyond_this_machine_and_postgres_is_not_published() -> None:
    services = compose()["services"]
    assert [port.split(":")[0] for port in services["offload"]["ports"]] == ["127.0.0.1"]
    assert "ports" not in services["postgres"]
    assert services["offload"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_the_health_check_is_a_program_of_the_package() -> None:
    [words] = re.findall(r"^HEALTHCHECK .*CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(words) == ["python", "-P", "-m", health_check.__spec__.name]


def test_the_context_of_the_image_has_what_the_build_reads() -> None:
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [included] = re.findall(r'force-include\]\n"([^"]+)"', project)
    assert {"dagster_offload", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", included} <= kept
