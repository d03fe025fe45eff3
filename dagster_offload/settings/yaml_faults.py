"""What is wrong with a text that is no YAML, where, and what a person probably meant. Pure."""

import re
from collections.abc import Sequence

from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.reader import ReaderError

_NO_SPACE = re.compile(r"\s*(- )?[\w.-]+:[^\s:/]")  # `url:http://...`; not the line `http://...` of a longer text


def syntax_error(error: YAMLError, name: str, text: str) -> str:
    """The message for an error of the parser. It begins with `name:line:column`."""
    lines = text.splitlines()
    if isinstance(error, ReaderError):
        before = text[: error.position]
        line, column = before.count("\n"), error.position - (before.rfind("\n") + 1)
        return (
            f"{name}:{line + 1}:{column + 1}: is not YAML: the character U+{ord(text[error.position]):04X} is not allowed: "
            "remove it, or save the file as UTF-8"
        )
    if not isinstance(error, MarkedYAMLError):
        return f"{name}: is not YAML: {' '.join(str(error).split())}"
    mark, problem = _mark_and_problem(error)
    if mark is None:
        return f"{name}: is not YAML: {problem}"
    return f"{name}:{mark.line + 1}:{mark.column + 1}: is not YAML: {problem}{_hint(error, problem, lines)}"


def _mark_and_problem(error: MarkedYAMLError) -> tuple[StringMark | None, str]:
    """Where the fault is, and what it is. The parser notices some faults only at a later place: at the end of the file."""
    problem = str(error.problem or error.context)
    is_in_quotes = re.search("scanning a (quoted|double-quoted) scalar", str(error.context)) is not None
    if is_in_quotes and ("end of stream" in problem or "document separator" in problem):
        return error.context_mark, "the quote that begins here is not closed"
    if "could not find expected ':'" in problem:
        return error.context_mark, "this is no `key: value`"
    if "found another document" in problem:
        return error.problem_mark, "a second document begins here: remove this line"
    return error.problem_mark or error.context_mark, problem


def _hint(error: MarkedYAMLError, problem: str, lines: Sequence[str]) -> str:
    """What a person probably did, to append to the parser's words; empty if there is no guess."""
    mark = error.problem_mark or error.context_mark
    line, above = _line(lines, mark.line), _line(lines, mark.line - 1)
    before, here = line[: mark.column], line[mark.column :]
    if "no `key: value`" in problem:
        return ": is a space missing after its colon?"
    if "mapping values are not allowed" in problem:
        if ": " in before:
            return ": a text with ': ' in it needs quotes around it"
        if _NO_SPACE.match(above):
            return f": is a space missing after the colon in line {mark.line}?"
        return ": is this line indented further than the one above it, or does a text with ': ' need quotes?"
    if "cannot start any token" in problem:
        is_tab = here.startswith("\t")
        return ": use spaces, not tabs" if is_tab else ": a text that begins with this character needs quotes around it"
    if "undefined alias" in problem:
        return ": a text that begins with * needs quotes around it"
    if "escape" in problem:
        return r": between double quotes, \ has a meaning of its own: use single quotes"
    if "parsing a flow" in str(error.context) and error.context_mark is not None:
        return f": is a comma missing before it, or is the bracket of line {error.context_mark.line + 1} not closed?"
    if here.startswith("?"):
        return ": only the name of a type can end in `?`: write {type: [string], optional: true}"
    if "<block end>" in problem and not before.strip():
        return ": is this line indented as the lines beside it?"
    return ""


def _line(lines: Sequence[str], number: int) -> str:
    return lines[number] if 0 <= number < len(lines) else ""
