"""YAML text -> plain values, and the place of each key and value. Only data: tags that would construct objects are refused."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dagster_offload.errors import SettingsError
from dagster_offload.settings.yaml_faults import syntax_error
from dagster_offload.text.lenient_json import NOT_STORABLE

# A chain of aliases can expand a small file to any size, so the nodes are counted after expansion.
MAX_NODES = 20_000
MAX_DEPTH = 40

# Allowed in YAML. The warning quotes the library's code.
warnings.filterwarnings("ignore", category=ReusedAnchorWarning)

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {f"{_TAG}str", f"{_TAG}timestamp"}  # a date stays text; the stage's answer model knows what it is
_TAGS = {f"{_TAG}{name}" for name in ("map", "seq", "str", "timestamp", "null", "bool", "int", "float")}

# YAML drops the spaces of the keyboard before a key, and no others.
_ODD_SPACE = re.compile(r"\s")


Path = tuple[str | int, ...]  # ("stages", "classify", "classes", 0)


@dataclass(frozen=True)
class Place:
    """A line and a column, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True)
class YamlText:
    """The values of a YAML text and the places of its keys and values."""

    values: Mapping[str, Any]
    keys: Mapping[Path, Place]
    places: Mapping[Path, Place]


def parse_yaml(text: str, name: str) -> YamlText:
    """Parse one YAML document whose top level is a mapping. An empty text has no values.

    Raises `SettingsError`, which starts with `name:line:column`. YAML is read as version 1.2, so `no` is a word.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
        reader = _Reader(yaml, name)
        values = {} if node is None else reader.value(node, (), 0)
    except RecursionError:
        raise SettingsError(f"{name}: the values are nested too deeply") from None
    except YAMLError as error:
        raise SettingsError(syntax_error(error, name, text)) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise SettingsError(f"{name}:1:1: the file must consist of `key: value` lines")
    return YamlText(values, reader.keys, reader.places)


@dataclass
class _Reader:
    yaml: YAML
    name: str
    keys: dict[Path, Place] = field(default_factory=dict)
    places: dict[Path, Place] = field(default_factory=dict)
    nodes: int = 0

    def value(self, node: Node, path: Path, depth: int) -> Any:
        """The value of a node. Raises `SettingsError`."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self.error(node, "too many or too deeply nested values, perhaps through aliases (`*name`)")
        if str(node.tag) not in _TAGS:
            tag = str(node.tag).removeprefix(_TAG)
            raise self.error(
                node, f"the tag {tag!r} is not supported: remove it; a text that begins with ! needs quotes around it"
            )
        self.places[path] = _place(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self.error(
                    key_node, "a key must be a word; a text that begins with { or [ needs quotes around it"
                )
            key = self._text(key_node)
            if key_node.style is None and (odd := _ODD_SPACE.match(key)) is not None:
                raise self.error(
                    key_node, f"this begins with the space U+{ord(odd[0]):04X} of copied text: type the spaces anew"
                )
            if key_node.tag == f"{_TAG}merge":
                raise self.error(key_node, "`<<` does not belong to YAML 1.2: write the keys out")
            if key in values:
                first = self.keys[(*path, key)].line
                hint = "move these lines there" if isinstance(value_node, MappingNode) else "remove one of them"
                raise self.error(key_node, f"the key {key!r} is here twice (first in line {first}): {hint}")
            self.keys[(*path, key)] = _place(key_node)
            values[key] = self.value(value_node, (*path, key), depth + 1)
            if (
                value_node.start_mark.index == value_node.end_mark.index
            ):  # nothing is written: the next key begins there
                self.places[*path, key] = self.keys[*path, key]
        return values

    def _scalar(self, node: Node) -> Any:
        tag = str(node.tag)
        if tag in _TEXT_TAGS:
            return self._text(node)
        try:
            return self.yaml.constructor.construct_object(node)
        except (ValueError, KeyError):  # a number with thousands of digits, or text behind an explicit tag
            raise self.error(node, f"this is no value of the type {tag.removeprefix(_TAG)}") from None

    def _text(self, node: Node) -> str:
        text = str(node.value)
        # Only an escape can write these, and JSON writes an emoji as two halves.
        if (wrong := NOT_STORABLE.search(text)) is not None:
            raise self.error(node, f"must not contain U+{ord(wrong[0]):04X}: write the character that is meant itself")
        return text

    def error(self, node: Node, message: str) -> SettingsError:
        return SettingsError(f"{self.name}:{_place(node)}: {message}")


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
