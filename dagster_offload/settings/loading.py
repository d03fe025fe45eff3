"""Puts the sources of settings together. Precedence: option, environment, `.env`, pipeline file, default."""

import contextlib
import os
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dagster_offload.errors import SettingsError
from dagster_offload.host.ownership import belongs_to_other, me, others_may_write
from dagster_offload.settings.faults import shown_value, together, unknown_key
from dagster_offload.settings.files import FILE_NAME, PipelineText, find_file, read_dotenv, read_pipeline
from dagster_offload.settings.leaves import (
    BY_KEY,
    CONFIG,
    CONFIG_SNAPSHOT,
    Leaf,
    further_slots,
    keys_below,
    leaves_of_slots,
)
from dagster_offload.settings.model import Settings, default_home
from dagster_offload.settings.sections.section import absolute
from dagster_offload.settings.sections.slots import SlotSettings
from dagster_offload.settings.sections.unset import without_unset
from dagster_offload.settings.sources import Given, Origin, Tree, read_keys, read_tree, read_values, read_variables
from dagster_offload.slot.config import BUILT_IN_SLOTS, DEEP, PRIMARY
from dagster_offload.stage_spec.slots import named_slots
from dagster_offload.stage_spec.stage import name_problem
from dagster_offload.text.suggestions import nearest, no_such
from dagster_offload.text.validation import path_of, setting_in_words

# What names a home and its Postgres.
_PLACE_KEYS = ("home", "postgres_url")
_PLACE_VARIABLES = ("OFFLOAD_HOME", "OFFLOAD_POSTGRES_URL", CONFIG)

# A component has its values from a file and nothing else: they have no origin.
_IN_FILE = ("file", "default")

_MISPLACED = "this is a key of a stage, and no stage's name: are these lines indented below the name of a stage?"


@dataclass(frozen=True)
class Loaded:
    """The settings, the pipeline file that was read (None if there is none), and where each value came from."""

    settings: Settings
    file: Path | None
    tree: Tree
    text: str | None = None  # of the file

    @property
    def files(self) -> tuple[Path, ...]:
        """The pipeline file, and the files that it names and that choose settings, too."""
        return () if self.file is None else (self.file, *self.tree.schemas)

    def origin(self, leaf: Leaf) -> Origin:
        """Where the value of a setting came from."""
        return self.tree.origins.get(leaf.key, Origin("default"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once. Keyword arguments override everything else: `deep_url` is `OFFLOAD_DEEP_URL`.

    Raises `SettingsError`, which names every wrong variable, and every wrong key with its line and column.
    """
    return read_settings(**overrides).settings


def read_settings(**overrides: Any) -> Loaded:
    """Read the settings and where each came from. Raises `SettingsError` as `load_settings` does."""
    return _read(overrides, os.environ)


def read_without(variables: Collection[str]) -> Loaded:
    """The settings that this process would have without these environment variables. Raises `SettingsError`."""
    return _read({}, {name: value for name, value in os.environ.items() if name not in variables})


def _read(overrides: Mapping[str, Any], environment: Mapping[str, str]) -> Loaded:
    dotenv = read_dotenv()
    given = read_variables(overrides, environment, dotenv)
    home, path = _home_and_file(given)
    file = None if path is None else read_pipeline(path, _path(given.get(CONFIG_SNAPSHOT)))
    loaded = _load(file, given, {**dotenv, **environment}, path)
    if path == home / FILE_NAME and loaded.settings.home != home:
        raise SettingsError(
            f"{loaded.tree.origin(('home',))}: home names another folder ({loaded.settings.home}): remove the key, or move "
            "the file there"
        )
    return loaded


def read_edited(file: PipelineText | None, path: Path | None, without: Leaf | None = None) -> Loaded:
    """The settings that the pipeline file at `path` would give with this text. The variable of the setting `without` does not
    count. Raises `SettingsError`."""
    dotenv = read_dotenv()
    given = read_variables({}, os.environ, dotenv)
    if without is not None:
        given.pop(without.variable, None)
    return _load(file, given, {**dotenv, **os.environ}, path)


def read_alone(file: PipelineText, path: Path) -> Loaded:
    """The settings that the pipeline file gives in a terminal without variables; only its home is that of this one.

    What `${NAME}` in it refers to is read as usual. Raises `SettingsError`.
    """
    dotenv = read_dotenv(_PLACE_VARIABLES)
    given = read_variables({}, _only(os.environ, _PLACE_VARIABLES), _only(dotenv, _PLACE_VARIABLES))
    return _load(file, given, {**dotenv, **os.environ}, path)


def settings_of(values: Mapping[str, Any], folder: Path, name: str) -> Settings:
    """The settings with these values of a pipeline file and nothing else: no variable, no `.env`, no other file.

    Relative paths start at `folder`. Raises `SettingsError`, whose message begins with `name`.
    """
    try:
        settings = _validated(read_values(values, folder))
        settings.slots.require_keys()
        return settings
    except SettingsError as error:
        raise SettingsError(f"{name}: {'; '.join(map(str, error.args))}") from None


def _load(
    file: PipelineText | None, given: Mapping[str, Given], variables: Mapping[str, str], path: Path | None
) -> Loaded:
    name = "" if path is None else str(path)
    tree = read_tree(file, given, variables, name)
    return Loaded(_validated(tree), path, tree, None if file is None else file.text)


def _validated(tree: Tree) -> Settings:
    try:
        settings = Settings.model_validate(tree.values)
    except ValidationError as error:
        raise SettingsError(*_problems(error, tree)) from None
    for name in BUILT_IN_SLOTS:
        if (slot := settings.slots_section.named(name)).url is not None:
            slot.note_in_file(_in_file(tree, name))
    _ = settings.slots  # a URL without its model is reported here, before anything starts
    refuse_home_of_others(settings.home)
    return settings


def _in_file(tree: Tree, slot: str) -> Iterator[str]:
    """The fields of a slot whose place is the pipeline file: those set there, and those set nowhere if the slot is."""
    is_slot_there = tree.origin(("slots", slot, "url")).kind in _IN_FILE
    for field in SlotSettings.model_fields:
        origin = tree.origins.get(("slots", slot, field), Origin("default"))
        if is_slot_there if origin.kind == "default" else origin.kind == "file":
            yield field


def find_home() -> Path:
    """The home that the variables name, or the default. The pipeline file is not read."""
    return _home_and_file(read_variables({}, os.environ, read_dotenv()))[0]


def command_for(home: Path, command: str) -> str:
    """A command of dagster-offload as a person types it for this home. A component may have another one than a terminal."""
    typed = f"dagster-offload {command}"
    with contextlib.suppress(SettingsError, OSError):  # the working folder may be of another user
        if find_home() == home:
            return typed
    return f"OFFLOAD_HOME={shlex.quote(str(home))} {typed}"


def find_pipeline() -> Path:
    """The path of the pipeline file; the home's if there is none yet. Its content may be wrong."""
    home, path = _home_and_file(read_variables({}, os.environ, read_dotenv()))
    return path or home / FILE_NAME


def read_variables_only() -> Loaded:
    """The settings without any pipeline file. Raises `SettingsError`."""
    return read_edited(None, None)


def read_place() -> Settings:
    """The home and the address of its Postgres; everything else has its default. For settings that are otherwise wrong.

    If the pipeline file is not YAML, the home is that of OFFLOAD_HOME, or the one that the file is in. Raises `SettingsError`
    if the home is not certain then, because the file may name another one.
    """
    dotenv = read_dotenv(_PLACE_VARIABLES)
    given = read_variables({}, _only(os.environ, _PLACE_VARIABLES), _only(dotenv, _PLACE_VARIABLES))
    home, path = _home_and_file(given)
    variables = {**dotenv, **os.environ}
    try:
        file = None if path is None else read_pipeline(path)
        return _validated(read_keys(_PLACE_KEYS, file, given, variables, "" if path is None else str(path)))
    except SettingsError:
        if "OFFLOAD_HOME" not in given and path != home / FILE_NAME:
            raise
        only_variables = read_keys(_PLACE_KEYS, None, given, variables, "")
        only_variables.values["home"] = home
        return _validated(only_variables)


def _home_and_file(given: Mapping[str, Given]) -> tuple[Path, Path | None]:
    """The home that the variables name, or the default, and the pipeline file; None if there is none."""
    home = _path(given.get("OFFLOAD_HOME")) or default_home()
    return home, find_file(_path(given.get(CONFIG)), home)


def _only(variables: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.upper() in names}


def _path(given: Given | None) -> Path | None:
    return None if given is None else absolute(Path(given.value))


def _problems(error: ValidationError, tree: Tree) -> list[str]:
    """One message for each wrong value or key. It shows the value unless that may be a secret."""
    messages: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for fault in without_unset(error.errors(include_url=False)):
        # A validator that knows a deeper place names the rest of the path to it.
        path = _without_union_tags(path_of(fault), tree)
        if _is_misplaced(path, tree):
            where, message = tree.where(path[:2]), _MISPLACED
        elif fault["type"] == "extra_forbidden":
            where, message = _unknown_key(path, tree)
        elif fault["type"] == "missing" and path[:1] == ("stages",):
            where, message = tree.where(path), _missing_in_stage(str(path[1]), str(fault["loc"][-1]))
        else:
            where, message = tree.where(path), setting_in_words(fault)
            if (value := shown_value(path, fault["input"])) is not None and not message.startswith(value):
                values[where] = f" (it is {value})"
        messages.setdefault(where, []).append(message)
    for path, message in _names_in_stages(tree):
        messages.setdefault(tree.where(path), []).append(message)
    return [
        f"{where}: {message}{values.get(where, '')}" for where, found in messages.items() for message in together(found)
    ]


def _names_in_stages(tree: Tree) -> Iterator[tuple[tuple[str, ...], str]]:
    """Wrong names of stages and slots. The model checks them only if each stage is right by itself."""
    stages = tree.values.get("stages")
    slots = (DEEP, *further_slots(tree.values), PRIMARY)
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        is_built_in = name in keys_below(("stages",))
        if not is_built_in and not _is_misplaced(("stages", name), tree) and (problem := name_problem(name)):
            yield ("stages", name), problem
        with contextlib.suppress(ValueError):  # the model reports that it names no slots
            named = named_slots(stage.get("slots")) if isinstance(stage, dict) else ()
            for slot in named if isinstance(named, tuple) else ():
                if slot not in slots:
                    yield ("stages", name, "slots"), no_such("slot", slot, slots)


def _without_union_tags(location: tuple[int | str, ...], tree: Tree) -> tuple[int | str, ...]:
    """The path of a fault in the tree. Pydantic appends the name of a type to it if several types are accepted."""
    for length in range(len(location), 0, -1):
        if location[:length] in tree.origins or location[:length] in tree.keys:
            return location[:length]
    return location


def _unknown_key(path: tuple[int | str, ...], tree: Tree) -> tuple[str, str]:
    place = tree.keys.get(path)
    origin = tree.origin(path)
    where = f"{origin.name}:{place}" if place is not None else str(origin)
    return where, unknown_key(path, keys_below(tuple(map(str, path[:-1]))))


def _is_misplaced(path: tuple[int | str, ...], tree: Tree) -> bool:
    """Whether a key of a stage stands where the name of a stage belongs: `prompt` directly below `stages`."""
    if path[:1] != ("stages",) or len(path) < 2 or path[1] not in keys_below(("stages", "a stage")):
        return False
    written = tree.values["stages"].get(path[1])
    return not isinstance(written, dict) or "prompt" not in written


def _missing_in_stage(stage: str, key: str) -> str:
    meant = nearest(stage, keys_below(("stages",)))
    hint = "" if meant is None else f" (did you mean the built-in stage {meant}?)"
    return f"a stage of your own needs the key {key!r}{hint}"


def refuse_home_of_others(home: Path) -> None:
    """Raise `SettingsError` if another user may have written into the home.

    The home holds Dagster's own settings, which name code to run. An empty folder is harmless; its mode is set on first
    use.
    """
    try:
        status = home.stat()
        names = os.listdir(home) if stat.S_ISDIR(status.st_mode) else []
    except OSError:  # it does not exist yet, or cannot be used: the first command that uses it reports that
        return
    if (owner := belongs_to_other(status, me())) is not None:
        raise SettingsError(
            f"OFFLOAD_HOME {home} {owner}, and code named in it runs as you: run this as its owner, or choose a folder of "
            "your own"
        )
    if names and (reason := others_may_write(status, me())) is not None:
        raise SettingsError(
            f"OFFLOAD_HOME {home} {reason}, and code named in it runs as you: choose a folder of your own, "
            f"or check its content and remove the write permission of others (chmod go-w {home})"
        )


def leaf_of(word: str) -> Leaf:
    """The setting of a dotted key or a variable. Raises `SettingsError` with the nearest one."""
    section, _, rest = word.partition(".")
    slot = rest.partition(".")[0]
    further = leaves_of_slots([slot]) if section == "slots" and slot not in BUILT_IN_SLOTS else ()
    by_word = {leaf.dotted: leaf for leaf in (*BY_KEY.values(), *further)}
    by_variable = {leaf.variable: leaf for leaf in BY_KEY.values()}
    if (leaf := by_word.get(word) or by_variable.get(word.upper())) is not None:
        return leaf
    with_last_part = [dotted for dotted in by_word if dotted.endswith(f".{word}")]
    meant = with_last_part[0] if with_last_part else nearest(word, [*by_word, *by_variable])
    hint = f"did you mean {meant}?" if meant else "`dagster-offload config show` lists the keys"
    raise SettingsError(f"there is no setting {word!r}: {hint}")
