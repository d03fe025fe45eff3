"""Changes one value in the text of a pipeline file. Everything else stays as it is: comments, order, quotes, indentation.

A YAML library that writes the whole file keeps comments too, but moves them and changes the indentation.
"""

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dagster_offload.errors import SettingsError
from dagster_offload.settings.leaves import Key
from dagster_offload.settings.yaml_text import parse_yaml

_STEP = 2  # columns of a new level


def with_value(text: str, key: Key, value: str) -> str:
    """The text with `key` set to `value`, which is YAML in one line.

    A comment such as `# url:` in the right section becomes the value. Raises `SettingsError` if a key above is no section.
    """
    if text and not text.endswith("\n"):
        text += "\n"
    before = parse_yaml(text, "the file").values
    section: Node | None = YAML(typ="safe", pure=True).compose(text)
    section_key: Node | None = None
    rest = list(key)
    while isinstance(section, MappingNode) and (found := _entry(section, rest[0])) is not None:
        section_key, section = found
        rest.pop(0)
        if not rest:
            return _checked(_replaced(text, section_key, section, value), before, key)
    if section is not None and not isinstance(section, MappingNode) and not _is_null(section):
        raise SettingsError(f"{'.'.join(key)} cannot be set, because a key above it has a value of its own")
    return _checked(_inserted(text, section, section_key, rest, value), before, key)


def _entry(section: MappingNode, key: str) -> tuple[Node, Node] | None:
    return next(((name, value) for name, value in section.value if name.value == key), None)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and str(node.tag).endswith(":null")


def _is_absent(node: Node) -> bool:
    """Whether nothing stands behind `key:`. The mark of such a node is at the next key, behind comments."""
    return isinstance(node, ScalarNode) and node.value == "" and node.style is None


def _replaced(text: str, key: Node, node: Node, value: str) -> str:
    if _is_absent(node):
        at = text.index(":", key.end_mark.index) + 1
        return f"{text[:at]} {value}{text[at:]}"
    return f"{text[: node.start_mark.index]}{value}{text[_end(node) :]}"


def _inserted(text: str, section: Node | None, section_key: Node | None, rest: list[str], value: str) -> str:
    """The text with `rest` as a new key of the section, or of several new sections."""
    if isinstance(section, MappingNode) and section.flow_style:
        end = section.end_mark.index - 1
        comma = ", " if section.value else ""
        return f"{text[:end].rstrip()}{comma}{': {'.join(rest)}: {value}{'}' * (len(rest) - 1)}{text[end:]}"
    entries = section.value if isinstance(section, MappingNode) else []
    start = 0 if section_key is None else _line_end(text, section_key.start_mark.index)
    if entries:
        column, at = entries[0][0].start_mark.column, _line_end(text, max(_entry_end(*entries[-1]) - 1, 0))
    elif section_key is not None:
        column, at = section_key.start_mark.column + _STEP, start
    else:
        column, at = 0, len(text)
    if (comment := _comment(text, start, column, rest[0])) is not None and len(rest) == 1:
        return f"{text[: comment.start()]}{' ' * column}{rest[0]}: {value}{comment[1] or ''}{text[comment.end() :]}"
    lines = [f"{' ' * (column + _STEP * depth)}{name}:" for depth, name in enumerate(rest)]
    return text[:at] + "\n".join(lines) + f" {value}\n" + text[at:]


def _comment(text: str, start: int, column: int, name: str) -> re.Match[str] | None:
    """The comment `# name: default  # explanation` among the lines of a section that starts at `start`."""
    outside = re.compile(rf"^ {{0,{column - 1}}}\S", re.MULTILINE).search(text, start) if column else None
    wanted = re.compile(rf"^ {{{column}}}# {re.escape(name)}:.*?(  #.*)?$", re.MULTILINE)
    return wanted.search(text, start, outside.start() if outside else len(text))


def _line_end(text: str, index: int) -> int:
    """The index after the end of the line that `index` is in."""
    return text.index("\n", index) + 1 if "\n" in text[index:] else len(text)


def _end(node: Node) -> int:
    """Where the last value of a node ends. A block's own mark is behind the comments that follow it."""
    if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _entry_end(*last) if isinstance(last, tuple) else _end(last)
    return int(node.end_mark.index)


def _entry_end(key: Node, value: Node) -> int:
    return int(key.end_mark.index) + 1 if _is_absent(value) else _end(value)


def _checked(text: str, before: Mapping[str, Any], key: Key) -> str:
    """The text, if it differs from the text before it only in `key`."""
    after = parse_yaml(text, "the edited file").values
    if _without(before, key) != _without(after, key):
        raise SettingsError(f"{'.'.join(key)} cannot be set automatically in this file: edit the file")
    return text


def _without(values: Any, key: Key) -> Any:
    """The values without `key` and without sections that are empty."""
    if not isinstance(values, dict):
        return values
    rest = {
        name: _without(value, key[1:] if name == key[0] else ("",)) for name, value in values.items() if (name,) != key
    }
    return {name: value for name, value in rest.items() if value not in (None, {})}
