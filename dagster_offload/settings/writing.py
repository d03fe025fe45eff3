"""Writes pipeline files: a commented one for a new home, and single values, which keep the comments of the file."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

from dagster_offload.errors import SettingsError
from dagster_offload.settings.files import PipelineText, read_pipeline
from dagster_offload.settings.leaves import LEAVES, Key, Leaf
from dagster_offload.settings.loading import Loaded, read_edited
from dagster_offload.settings.model import Settings
from dagster_offload.settings.yaml_text import parse_yaml
from dagster_offload.slot.config import without_password

HEADER = """\
# A pipeline of dagster-offload. Every setting is here, the unset ones as comments with their defaults.
# `dagster-offload config check` checks the file, and `config schema` prints a JSON Schema for editors.
"""


def write_private(path: Path, text: str) -> None:
    """Replace the file at once, so that a reader never sees half of it. A new file is readable only by its owner.

    A link stays: its target is replaced. Raises `SettingsError`.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(file.name, target)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


def new_file(values: Mapping[Key, Any]) -> str:
    """The text of a pipeline file with these values. Every other setting is a comment with its default."""
    return HEADER + "".join(_section_lines(values, Settings, ()))


def _section_lines(values: Mapping[Key, Any], model: type[BaseModel], above: Key) -> Iterator[str]:
    indent = "  " * len(above)
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if not above:
                yield "\n"
            yield f"{indent}{key[-1]}:  # {field.description}\n"
            yield from _section_lines(values, kind, key)
        elif key in values:
            yield f"{indent}{_line(key[-1], values[key])}  # {field.description}\n"
        else:
            default = field.get_default(call_default_factory=True)
            shown = "" if default is None or default == () else f" {_line('x', default)[3:]}"
            yield f"{indent}# {key[-1]}:{shown}  # {field.description}\n"


def _line(key: str, value: Any) -> str:
    """One `key: value` in YAML, quoted where needed."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 100_000
    plain = _plain(value)
    out = StringIO()
    yaml.dump({key: plain}, out)
    return out.getvalue().strip().removeprefix("{").removesuffix("}")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return (
        value
        if type(value) in (bool, int, float, str, dict)
        else (int(value) if isinstance(value, int) else str(value))
    )


def with_value(text: str, leaf: Leaf, value: Any) -> str:
    """The text of a pipeline file with one value changed. Comments, order and indentation stay.

    Raises `SettingsError` if the text is not a mapping.
    """
    try:
        data, indent, offset = load_yaml_guess_indent(text or "{}")
    except YAMLError as error:
        raise SettingsError(f"the file is not YAML: {' '.join(str(error).split())}") from None
    if not text.strip() or data is None:
        data = CommentedMap()
    section: Any = data
    for name in leaf.key[:-1]:
        if not isinstance(section, dict):
            break
        if section.get(name) is None:
            section[name] = CommentedMap()
        section = section[name]
    if not isinstance(section, dict):
        raise SettingsError(f"{leaf.dotted} cannot be set, because a key above it is not a section")
    section[leaf.key[-1]] = _plain(value)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100_000
    yaml.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def set_in_file(path: Path, leaf: Leaf, value: str) -> None:
    """Change one value of the pipeline file at `path`, which is created if it is missing.

    Raises `SettingsError` if the result would be wrong; the file is then unchanged.
    """
    file = read_pipeline(path) if os.path.lexists(path) else PipelineText(path, new_file({}), None)
    text = with_value(file.text, leaf, _typed(value, leaf))
    read_edited(replace(file, text=text), path)
    write_private(path, text)


def _typed(value: str, leaf: Leaf) -> Any:
    """The value as YAML reads it, or the text itself where the setting is a text."""
    is_text = leaf.field.annotation is str or (str in get_args(leaf.field.annotation) and not leaf.is_list)
    if leaf.is_secret or leaf.is_path or is_text:
        return value
    parsed = parse_yaml(f"value: {value}", "value").values["value"]
    return [name.strip() for name in parsed.split(",")] if leaf.is_list and isinstance(parsed, str) else parsed


def values_to_keep(loaded: Loaded) -> dict[Key, Any]:
    """The values of options and variables, for a new file. A secret becomes `${VARIABLE}`: it stays in one place."""
    kept: dict[Key, Any] = {}
    for leaf in LEAVES:
        if leaf.dotted == "home" or loaded.origin(leaf).kind in ("default", "file"):
            continue
        value = leaf.value_in(loaded.settings)
        is_secret = leaf.is_secret or (leaf.key[-1] == "url" and without_password(value) != value)
        kept[leaf.key] = f"${{{leaf.variable}}}" if is_secret else value
    return kept
