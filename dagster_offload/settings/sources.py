"""The sources of settings: options, the environment, `.env` and the pipeline file. Each value keeps where it came from."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dagster_offload.errors import SettingsError
from dagster_offload.settings.files import PipelineText, read_own
from dagster_offload.settings.leaves import (
    ANY_STAGES,
    LEAVES,
    OTHER_VARIABLES,
    VARIABLES,
    Key,
    further_slots,
    leaves_of_slots,
)
from dagster_offload.settings.sections.notify import CHANNEL_KINDS
from dagster_offload.settings.sections.notify import SECTION as NOTIFY
from dagster_offload.settings.sections.recipients import ADDRESS_KEYS, FILE_KEYS, SECRET_KEYS
from dagster_offload.settings.sections.sinks import SECTION as ON_RECORD
from dagster_offload.settings.sections.sinks import SINK_KINDS
from dagster_offload.settings.sections.unset import UnsetVariable
from dagster_offload.settings.yaml_text import Place, YamlText, parse_yaml
from dagster_offload.slot.config import without_password
from dagster_offload.text.lenient_json import read_json
from dagster_offload.text.lists import comma_separated
from dagster_offload.text.suggestions import hint, no_such

_PREFIX = "OFFLOAD_"
# `${NAME}`, or `$${` for the text `${`.
REFERENCE = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")

_OF_KUBERNETES = re.compile(r"_SERVICE_(?:HOST|PORT(?:_\w+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$")
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")

Kind = Literal["option", "environment", ".env", "file", "default"]


@dataclass(frozen=True)
class Origin:
    """Where a value came from. `name` is its variable, or the path of the file."""

    kind: Kind
    name: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.place}"
        return {"default": "default", ".env": f".env {self.name}"}.get(self.kind, f"{self.kind} {self.name}")


@dataclass(frozen=True)
class Given:
    """A value as a person wrote it, and where."""

    value: Any
    origin: Origin


def read_variables(
    options: Mapping[str, Any], environment: Mapping[str, str], dotenv: Mapping[str, str]
) -> dict[str, Given]:
    """The value of each `OFFLOAD_*` variable: of the option of that name, else of the environment, else of `.env`.

    An option of None and an empty variable are not set. Raises `SettingsError` for a variable that does not exist.
    """
    given: dict[str, Given] = {}
    sources: tuple[tuple[Kind, Iterator[tuple[str, Any]]], ...] = (
        (".env", _ours(dotenv)),
        ("environment", _ours(environment)),
        ("option", ((f"{_PREFIX}{name.upper()}", value) for name, value in options.items() if value is not None)),
    )
    unknown: dict[str, Kind] = {}
    for kind, variables in sources:
        for name, value in variables:
            if name not in VARIABLES and name not in OTHER_VARIABLES:
                unknown[name] = kind
            given[name] = Given(value, Origin(kind, name))
    if unknown:
        raise SettingsError(*(_unknown_variable(name, kind) for name, kind in unknown.items()))
    return given


def _ours(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # The case of a variable does not matter.
    ours = ((name.upper(), value) for name, value in variables.items() if value and name.upper().startswith(_PREFIX))
    return ((name, value) for name, value in ours if not _is_of_kubernetes(name, value))


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes set the variable: it does for each Service, such as one named `offload`, in every pod beside it
    (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)."""
    return _OF_KUBERNETES.search(name) is not None or (name.endswith("_PORT") and _ADDRESS.match(value) is not None)


def _unknown_variable(name: str, kind: Kind) -> str:
    where = " in .env" if kind == ".env" else ""
    otherwise = (
        "`dagster-offload config show` lists them, and a name for ${NAME} in the pipeline file must begin otherwise"
    )
    advice = hint(name, VARIABLES, otherwise)
    return f"{name}{where} is not a setting: {advice}"


@dataclass
class Tree:
    """The values of all sources in the form of the file, and where each came from."""

    values: dict[str, Any]
    origins: dict[tuple[str | int, ...], Origin] = field(default_factory=dict)
    keys: Mapping[tuple[str | int, ...], Place] = field(default_factory=dict)
    # the JSON Schemas that the stages name: their texts by file
    schemas: Mapping[Path, str] = field(default_factory=dict)

    def set(self, key: Key, given: Given) -> None:
        """Override a value. A section that is not a mapping is left, and the model refuses it."""
        section: Any = self.values
        for name in key[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                return
        section[key[-1]] = given.value
        self.origins[key] = given.origin

    def origin(self, path: tuple[str | int, ...]) -> Origin:
        """Where the value at `path` came from, or the nearest section above it."""
        for length in range(len(path), 0, -1):
            if (found := self.origins.get(path[:length])) is not None:
                return found
        return Origin("default")

    def where(self, path: tuple[str | int, ...]) -> str:
        """The place of a value, as a message names it."""
        origin = self.origin(path)
        if origin.kind == "file":
            return f"{origin}: {dotted(path)}"
        if origin.kind == "default":
            return dotted(path)
        return f"{origin.name} in .env" if origin.kind == ".env" else origin.name


def read_tree(
    file: PipelineText | None, given: Mapping[str, Given], variables: Mapping[str, str], file_name: str
) -> Tree:
    """The file's values, overridden by the variables. `variables` are what `${NAME}` in the file can refer to.

    Raises `SettingsError` with the place in the file.
    """
    tree = Tree({})
    if file is not None:
        parsed = parse_yaml(file.text, file_name)
        _refuse_readable_secrets(parsed, file, file_name)
        tree = _tree_of(parsed, file, variables, file_name)
        tree.keys = parsed.keys
        tree.schemas = _read_schemas(tree, file.path.parent, file.schema_text)
    for leaf in LEAVES:
        if leaf.variable in given and leaf.variable != ANY_STAGES:
            tree.set(leaf.key, given[leaf.variable])
    if ANY_STAGES in given:
        _set_any_stages(tree, given[ANY_STAGES])
    return tree


def read_keys(
    names: Collection[str],
    file: PipelineText | None,
    given: Mapping[str, Given],
    variables: Mapping[str, str],
    file_name: str,
) -> Tree:
    """The tree of these top-level keys; the rest of the file may be wrong. Raises `SettingsError` with the place."""
    tree = Tree({})
    if file is not None:
        parsed = parse_yaml(file.text, file_name)
        found = {name: value for name, value in parsed.values.items() if name in names}
        tree = _tree_of(replace(parsed, values=found), file, variables, file_name)
    for leaf in LEAVES:
        if leaf.key[0] in names and leaf.variable in given:
            tree.set(leaf.key, given[leaf.variable])
    return tree


def _tree_of(parsed: YamlText, file: PipelineText, variables: Mapping[str, str], file_name: str) -> Tree:
    values = _substituted(parsed, variables, file_name)
    _resolve_paths(values, file.path.parent)
    return Tree(values, {path: Origin("file", file_name, place) for path, place in parsed.places.items() if path})


def read_values(values: Mapping[str, Any], folder: Path) -> Tree:
    """The tree of these values of a pipeline file. Relative paths in it start at `folder`. Raises `SettingsError`."""
    tree = Tree(deepcopy(dict(values)))
    _resolve_paths(tree.values, folder)
    tree.schemas = _read_schemas(tree, folder, read_own)
    return tree


def _set_any_stages(tree: Tree, given: Given) -> None:
    """Set `slots` of every stage: `any` for the stages that the variable names, `deep` for the others.

    A list of slots in the file stays: the variable cannot name slots.
    """
    in_file = tree.values.get("stages")
    built_in = [leaf.key[1] for leaf in LEAVES if leaf.variable == ANY_STAGES]
    known = list(dict.fromkeys((*built_in, *(in_file if isinstance(in_file, dict) else ()))))
    names = comma_separated(str(given.value))
    for name in names:
        if name not in known:
            raise SettingsError(f"{ANY_STAGES}: {no_such('stage', name, known)}")
    for name in known:
        if name not in names and isinstance(_at(in_file, (name, "slots")), list):
            continue
        tree.set(("stages", name, "slots"), Given("any" if name in names else "deep", given.origin))


def _substituted(parsed: YamlText, variables: Mapping[str, str], file_name: str) -> dict[str, Any]:
    """Replace `${NAME}` in all text outside `stages`. The text of a stage goes to the model as it is."""

    def of(value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {key: of(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [of(each, (*path, index)) for index, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        if "${" in REFERENCE.sub(" ", value):
            raise SettingsError(
                f"{file_name}:{parsed.places[path]}: {dotted(path)}: '${{' is not followed by the name of a variable and '}}': "
                "a name has letters, digits and _ only, and begins with no digit; write $${ for the text itself"
            )
        unset = [match[2] for match in REFERENCE.finditer(value) if match[2] and not variables.get(match[2])]
        if unset:
            return missing(unset[0], path)
        return REFERENCE.sub(lambda match: variables[match[2]] if match[2] else "${", value)  # $${ is the text ${

    def missing(name: str, path: tuple[str | int, ...]) -> UnsetVariable:
        variable = UnsetVariable(
            f"{file_name}:{parsed.places[path]}: {dotted(path)}",
            f"the variable {name} is not set: set it in the environment, or in .env in the folder in which the command "
            f"runs ({Path.cwd()})",
        )
        if not _only_senders_need(path):
            raise SettingsError(str(variable))
        return variable

    return {key: value if key == "stages" else of(value, (key,)) for key, value in parsed.values.items()}


def _only_senders_need(path: tuple[str | int, ...]) -> bool:
    """Whether a value is the address or a secret of a sink or a channel, or the key of a slot. Commands that send nothing to it
    go on if its variable is not set."""
    keys = ("api_key",) if path[0] == "slots" else (*SECRET_KEYS, *ADDRESS_KEYS)
    return len(path) == 3 and path[0] in (ON_RECORD, NOTIFY, "slots") and path[2] in keys


def _refuse_readable_secrets(parsed: YamlText, file: PipelineText, file_name: str) -> None:
    if file.readers is None:
        return
    for key, value in _may_have_secrets(parsed.values):
        is_secret = key[-1] in ("api_key", *SECRET_KEYS)
        if not isinstance(value, str) or "${" in value or not (is_secret or without_password(value) != value):
            continue
        in_a_file = f", use {key[-1]}_file" if is_secret else ""
        raise SettingsError(
            f"{file_name}:{parsed.places[key]}: {dotted(key)} contains a secret, and the file {file.readers}: write "
            f"${{VARIABLE}} instead{in_a_file}, or run chmod 600 {file.path}"
        )


def _may_have_secrets(values: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """The secrets of the file, and the addresses that may have a password in them."""
    for leaf in (*LEAVES, *leaves_of_slots(further_slots(values))):
        if leaf.key[-1] in ("api_key", "url", "postgres_url", "broker"):
            yield leaf.key, _at(values, leaf.key)
    yield from _of_sinks(values, (*SECRET_KEYS, *SINK_KINDS, *CHANNEL_KINDS))


def _of_sinks(values: Mapping[str, Any], keys: Collection[str]) -> Iterator[tuple[Key, Any]]:
    """The values of these keys in all sinks and channels."""
    for section_name in (ON_RECORD, NOTIFY):
        section = values.get(section_name)
        for name, sink in section.items() if isinstance(section, dict) else ():
            for key in dict.fromkeys(keys):
                if isinstance(sink, dict) and key in sink:
                    yield (section_name, name, key), sink[key]


def _resolve_paths(values: dict[str, Any], folder: Path) -> None:
    """Relative paths in the file start at the file's folder. An empty one is not set, as in a variable: it is not that folder."""
    for (section, sink, key), path in _of_sinks(values, FILE_KEYS):
        if isinstance(path, str):
            values[section][sink][key] = os.path.join(folder, os.path.expanduser(path))
    for leaf in (*LEAVES, *leaves_of_slots(further_slots(values))):
        section = _at(values, leaf.key[:-1])
        if leaf.is_path and isinstance(section, dict) and isinstance(path := section.get(leaf.key[-1]), str):
            if path:
                section[leaf.key[-1]] = os.path.join(folder, os.path.expanduser(path))
            else:
                del section[leaf.key[-1]]


def _read_schemas(tree: Tree, folder: Path, read: Callable[[Path], str]) -> dict[Path, str]:
    """Put the JSON Schema that a stage names in place of its file's name. Raises `SettingsError` with the place."""
    texts = {}
    stages = tree.values.get("stages")
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        if isinstance(stage, dict) and isinstance(written := stage.get("schema"), str):
            path = folder / os.path.expanduser(written)
            where = tree.where(("stages", name, "schema"))
            try:
                texts[path] = read(path)
                stage["schema"] = read_json(texts[path])
            except SettingsError as error:
                raise SettingsError(f"{where}: {error}") from None
            except ValueError as error:
                raise SettingsError(f"{where}: {path} is not JSON: {error}") from None
    return texts


def _at(values: Any, key: Key) -> Any:
    for name in key:
        if not isinstance(values, dict):
            return None
        values = values.get(name)
    return values


def dotted(path: tuple[str | int, ...]) -> str:
    """A path in the file as people write it: `slots.deep.url`."""
    return ".".join(map(str, path))
