"""The pipeline file of a home: `up` writes its options into it, or links it to a file elsewhere."""

import os
import shlex
from collections.abc import Collection, Iterable, Mapping

from dagster_offload.errors import SettingsError
from dagster_offload.library.missing import is_no_folder
from dagster_offload.service.say import Say
from dagster_offload.settings import Loaded, Settings, read_settings
from dagster_offload.settings.files import FILE_NAME
from dagster_offload.settings.leaves import CONFIG
from dagster_offload.settings.loading import leaf_of, read_without
from dagster_offload.settings.writing import new_file, values_to_keep, write_private, write_unset


def refuse_second_file(loaded: Loaded) -> None:
    """Raise `SettingsError` if the pipeline file is not the one that this home has. A home without one may get it."""
    home_file = loaded.settings.home / FILE_NAME
    if loaded.file is None or not os.path.lexists(home_file):
        return
    if not home_file.exists() or not home_file.samefile(loaded.file):
        raise SettingsError(
            f"{home_file} is the pipeline file of this home, and {loaded.file} is another one: remove one of them, or set "
            "OFFLOAD_HOME to another folder"
        )


def keep_in_home(loaded: Loaded, typed: Mapping[str, str], say: Say) -> Loaded:
    """Make the home's pipeline file the one that `up` runs with, so that commands in other terminals find it.

    Options on a home without a file are written to one, and those that the home's file leaves open into it. A file elsewhere
    is linked: it may belong to several homes, and is not changed. An option that equals the file is dropped.
    `typed` are the options, by variable, which are set. Raises `SettingsError` if the home has another pipeline file.
    """
    home_file = loaded.settings.home / FILE_NAME
    if loaded.file is None and os.path.lexists(home_file):
        raise SettingsError(f"{home_file} was written while `up` started: start `up` again to use it")
    refuse_second_file(loaded)
    options = {name: value for name, value in typed.items() if name not in (CONFIG, "OFFLOAD_HOME")}
    if loaded.file is None:
        library = loaded.settings.library
        if not options or library is None or is_no_folder(library):
            return loaded
        write_private(home_file, new_file(values_to_keep(loaded), loaded.settings.home))
        _drop(options)
        say(f"These settings are now in {home_file}. {_who_uses('them')}")
        return read_settings()
    if not os.path.lexists(home_file):
        try:
            home_file.symlink_to(os.path.realpath(loaded.file))
        except OSError as error:
            raise SettingsError(f"{home_file} cannot be created: {error.strerror}") from error
        say(f"{home_file} now links to {loaded.file}, so that commands in other folders find it.")
    written = [] if home_file.is_symlink() else write_unset(loaded, options)
    if written:
        keys = ", ".join(leaf.dotted for leaf in written)
        say(f"Now in {home_file}: {keys}. {_who_uses('it' if len(written) == 1 else 'them')}")
    _drop(leaf.variable for leaf in written)
    left = {name: value for name, value in options.items() if name in os.environ}
    kept = _kept_already(left, loaded.settings)
    _drop(kept)
    # `config set` refuses a URL before its model.
    for name in sorted(left.keys() - kept, key=lambda name: (name.endswith("_URL"), name)):
        say(
            f"For this start only: {name}={left[name]}. Commands in other terminals do not use it. To keep it: "
            f"dagster-offload config set {name} {shlex.quote(left[name])}"
        )
    return read_settings() if written or kept else loaded


def _who_uses(what: str) -> str:
    return f"Commands in other terminals use {what}, and so does a plain `up`."


def _drop(options: Iterable[str]) -> None:
    """Unset the options, by variable, that the file has, so that an edit of the file is not overridden."""
    for name in options:
        del os.environ[name]


def _kept_already(options: Collection[str], settings: Settings) -> set[str]:
    """The options, by variable, that change nothing: the settings have the same values without them."""
    try:
        without = read_without(options).settings
    except SettingsError:  # the file is not complete without an option
        return set()
    leaves = {name: leaf_of(name) for name in options}
    return {name for name, leaf in leaves.items() if leaf.value_in(settings) == leaf.value_in(without)}
