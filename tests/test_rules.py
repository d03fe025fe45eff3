"""Every rule of docs/how-it-decides.md is held by a test, and no test names a rule that does not exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = re.compile(r"^\| ([a-z]+-\d+) \|", re.MULTILINE)


def rules() -> set[str]:
    return set(RULES.findall((ROOT / "docs" / "how-it-decides.md").read_text(encoding="utf-8")))


def named_by_tests() -> Iterator[str]:
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule":
                yield from (ast.literal_eval(argument) for argument in node.args)


def test_every_rule_is_held_by_a_test() -> None:
    assert rules() - set(named_by_tests()) == set()


def test_no_test_names_an_unknown_rule() -> None:
    assert set(named_by_tests()) - rules() == set()
