"""Writes pipeline files: a commented one for a new home, and single values, which keep the comments of the file."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ByteSize
from ruamel.yaml import YAML

from dagster_offload.errors import SettingsError
from dagster_offload.host.replacing import PRIVATE, replace_file
from dagster_offload.settings.editing import with_value
from dagster_offload.settings.files import PipelineText, read_dotenv, read_pipeline
from dagster_offload.settings.leaves import LEAVES, Key, Leaf
from dagster_offload.settings.loading import Loaded, find_home, leaf_of, read_alone, read_edited
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
        mode = target.stat().st_mode & 0o777 if target.exists() else PRIVATE
        replace_file(target, text, mode=mode)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


def new_file(values: Mapping[Key, Any], home: Path) -> str:
    """The text of a pipeline file with these values. Every other setting is a comment with its default, and the home with
    the folder that is used now."""
    return HEADER + "".join(_section_lines(values, home, Settings, ()))


def _section_lines(values: Mapping[Key, Any], home: Path, model: type[BaseModel], above: Key) -> Iterator[str]:
    indent = "  " * len(above)
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if not above:
                yield "\n"
            yield f"{indent}{key[-1]}:  # {field.description}\n"
            yield from _section_lines(values, home, kind, key)
        elif key in values:
            yield f"{indent}{key[-1]}: {one_line(values[key])}  # {field.description}\n"
        else:
            default = home if key == ("home",) else field.get_default(call_default_factory=True)
            shown = "" if default in (None, (), "") else f" {one_line(default)}"
            yield f"{indent}# {key[-1]}:{shown}  # {field.description}\n"


def one_line(value: Any) -> str:
    """The value as YAML in one line, quoted where needed."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = 100_000
    out = StringIO()
    yaml.dump({"x": as_yaml(value)}, out)
    return out.getvalue().strip().removeprefix("{x: ").removesuffix("}")


def as_yaml(value: Any) -> Any:
    """The value in the types of YAML. A size is written in MiB if that is exact, and a whole number without `.0`."""
    if isinstance(value, (tuple, list)):
        return [as_yaml(each) for each in value]
    if isinstance(value, ByteSize):
        return int(value) if value % 2**20 else f"{value // 2**20} MiB"
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (bool, int, float, dict)) else str(value)


def set_in_file(path: Path, leaf: Leaf, value: str) -> tuple[Any, Any]:
    """Change one value of the pipeline file at `path`, which is created if it is missing.

    Returns the value in the file before (None: it had none) and after, as YAML has them. Raises `SettingsError` if the
    result would be wrong, also where a variable overrides it now; the file is then unchanged.
    """
    file = read_pipeline(path) if os.path.lexists(path) else PipelineText(path, new_file({}, find_home()), None)
    try:
        text = with_value(file.text, leaf.key, one_line(_typed(value, leaf)))
        read_edited(replace(file, text=text), path, without=leaf)
    except SettingsError as error:
        raise SettingsError(*error.args, "nothing was changed") from None
    write_private(path, text)
    return _in_text(file.text, leaf), _in_text(text, leaf)


def write_unset(loaded: Loaded, options: Mapping[str, str]) -> list[Leaf]:
    """Write the options, by variable, whose settings the pipeline file does not have, into it: all in one edit.

    Returns their settings. There are none, and the file is unchanged, if the file is read-only or another user's, or if it
    would not have the same values for them in a terminal without variables.
    """
    if loaded.file is None or not _is_writable(loaded.file):
        return []
    try:
        file, elsewhere = read_pipeline(loaded.file), {name.upper() for name in read_dotenv()}
        unset = [leaf for leaf in map(leaf_of, options) if _in_text(file.text, leaf) is None]
        chosen = [leaf for leaf in unset if leaf.variable not in elsewhere]
        text = file.text
        for leaf in chosen:
            text = with_value(text, leaf.key, one_line(_typed(options[leaf.variable], leaf)))
        alone = read_alone(replace(file, text=text), loaded.file).settings
        if not chosen or any(leaf.value_in(alone) != leaf.value_in(loaded.settings) for leaf in chosen):
            return []
        write_private(loaded.file, text)
    except SettingsError:
        return []
    return chosen


def _is_writable(path: Path) -> bool:
    """Whether the owner of the file is this user, who can write it. A file is replaced, which its own mode does not prevent."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and status.st_mode & stat.S_IWUSR != 0


def _in_text(text: str, leaf: Leaf) -> Any:
    found: Any = parse_yaml(text, "the file").values
    for name in leaf.key:
        found = found.get(name) if isinstance(found, dict) else None
    return found


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
