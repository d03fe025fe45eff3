"""The pipeline file of a home: `up` writes its options into it, or links it to a file elsewhere."""

import os
import shlex
from collections.abc import Collection, Mapping

from dagster_offload.errors import SettingsError
from dagster_offload.service.say import Say
from dagster_offload.settings import Loaded, Settings, read_settings
from dagster_offload.settings.files import FILE_NAME
from dagster_offload.settings.leaves import CONFIG
from dagster_offload.settings.loading import leaf_of, read_without
from dagster_offload.settings.writing import new_file, values_to_keep, write_private


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

    Options on a home without a file are written to one. A file elsewhere is linked. An option that equals the file is dropped.
    `typed` are the options, by variable, which are set. Raises `SettingsError` if the home has another pipeline file.
    """
    home_file = loaded.settings.home / FILE_NAME
    if loaded.file is None and os.path.lexists(home_file):
        raise SettingsError(f"{home_file} was written while `up` started: start `up` again to use it")
    refuse_second_file(loaded)
    options = {name: value for name, value in typed.items() if name not in (CONFIG, "OFFLOAD_HOME")}
    if loaded.file is None:
        library = loaded.settings.library
        if not options or library is None or not library.is_dir():
            return loaded
        write_private(home_file, new_file(values_to_keep(loaded)))
        for name in options:  # the file has them now, so that an edit of the file is not overridden
            del os.environ[name]
        say(f"These settings are now in {home_file}. Commands in other terminals use them, and so does a plain `up`.")
        return read_settings()
    if not os.path.lexists(home_file):
        try:
            home_file.symlink_to(os.path.realpath(loaded.file))
        except OSError as error:
            raise SettingsError(f"{home_file} cannot be created: {error.strerror}") from error
        say(f"{home_file} now links to {loaded.file}, so that commands in other folders find it.")
    kept = _kept_already(options, loaded.settings)
    for name, value in options.items():
        if name in kept:
            del os.environ[name]  # as above: an edit of the file is not overridden
        else:
            say(
                f"For this start only: {name}={value}. To keep it: dagster-offload config set {name} {shlex.quote(value)}"
            )
    return read_settings() if kept else loaded


def _kept_already(options: Collection[str], settings: Settings) -> set[str]:
    """The options, by variable, that change nothing: the settings have the same values without them."""
    try:
        without = read_without(options).settings
    except SettingsError:  # the file is not complete without an option
        return set()
    leaves = {name: leaf_of(name) for name in options}
    return {name for name, leaf in leaves.items() if leaf.value_in(settings) == leaf.value_in(without)}
