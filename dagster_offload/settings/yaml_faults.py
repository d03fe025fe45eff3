"""What is wrong with a text that is no YAML, where, and what a person probably meant. Pure."""

import re
from collections.abc import Sequence

from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.reader import ReaderError

_NO_KEY = "this is no `key: value`"
_NEEDS_NO_COLON = re.compile(r"^\s*- |:(\s|$)")  # an entry of a list, or a key
_COPIED_SPACE = re.compile(r":([^\S \t])")


def syntax_error(error: YAMLError, name: str, text: str) -> str:
    """The message for an error of the parser. It begins with `name:line:column`."""
    lines = re.split("\r\n|\r|\n", text)  # as YAML counts them: `splitlines` ends one at U+2028, too
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
        return error.context_mark, _NO_KEY
    if "found another document" in problem:
        return error.problem_mark, "a second document begins here: remove the line `---` or `...`"
    if "<document start>" in problem:
        return error.problem_mark, "the file must consist of `key: value` lines"
    return error.problem_mark or error.context_mark, problem


def _hint(error: MarkedYAMLError, problem: str, lines: Sequence[str]) -> str:
    """What a person probably did, to append to the parser's words; empty if there is no guess."""
    if problem == _NO_KEY:
        return _hint_without_key(_line(lines, error.context_mark.line).strip())
    mark = error.problem_mark or error.context_mark
    line = _line(lines, mark.line)
    before, here = line[: mark.column], line[mark.column :]
    if "mapping values are not allowed" in problem:
        if ": " in before:
            return ": a text with ': ' in it needs quotes around it"
        if missing := _missing_above(lines[: mark.line]):
            return f": {missing}? A text with ': ' in it needs quotes"
        return ": is this line indented further than the one above it, or does a text with ': ' need quotes?"
    if "sequence entries are not allowed" in problem:
        return ": a list begins on the next line, and a text that begins with - needs quotes around it"
    if "cannot start any token" in problem:
        is_tab = here.startswith("\t")
        return ": use spaces, not tabs" if is_tab else ": a text that begins with this character needs quotes around it"
    if "undefined alias" in problem:
        return ": a text that begins with * needs quotes around it"
    if "escape" in problem:
        return r": between double quotes, \ has a meaning of its own: use single quotes"
    if "parsing a flow" in str(error.context) and error.context_mark is not None:
        return (
            ": is a comma missing before it, does the text need quotes, or is the bracket of line "
            f"{error.context_mark.line + 1} not closed?"
        )
    if "a comment or a line break" in problem:
        return ": the text after | or > begins on the next line"
    if here.startswith("?"):
        return ": only the name of a type can end in `?`: write {type: [string], optional: true}"
    if "<block end>" in problem:
        if before.strip():
            return _hint_after_end(here)
        return ": is this line indented as the lines beside it?" + (
            f" Or {missing}?" if (missing := _missing_above(lines[: mark.line])) else ""
        )
    return ""


def _hint_without_key(line: str) -> str:
    if line.startswith("-") and not line.startswith("- "):
        return ": is a space missing after its -?"
    if (space := _COPIED_SPACE.search(line)) is not None:
        return f": the space U+{ord(space[1]):04X} after its colon is one of copied text: type it anew"
    if ":" in line:
        return ": is a space missing after its colon?"
    return ": is its colon (:) missing, or is it a line of the text above, which must be indented further?"


def _missing_above(lines: Sequence[str]) -> str:
    """What may be missing in the last of these lines that is not blank and no comment; empty if nothing is."""
    written = [number for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not written or _NEEDS_NO_COLON.search(lines[written[-1] - 1]):
        return ""
    return f"is a colon missing in line {written[-1]}, or the space after it"


def _hint_after_end(here: str) -> str:
    if here.startswith(("]", "}")):
        return ": is this bracket one too many?"
    return (
        ": put quotes around the whole text (between single quotes, write '' for '), and look for a quote above that is "
        "not closed"
    )


def _line(lines: Sequence[str], number: int) -> str:
    return lines[number] if 0 <= number < len(lines) else ""
