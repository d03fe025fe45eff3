"""The settings of commands that must work while an edit of the pipeline file is not valid.

These only look, pause, resume, change what the ledger has of a slot, write a backup or stop `up`. Commands that change more by
the file use `load_settings`, which refuses then.
"""

from typing import TYPE_CHECKING

import click

from dagster_offload.text.plain_text import escaped

if TYPE_CHECKING:
    from dagster_offload.settings import Loaded


def read_in_force() -> "Loaded":
    """The settings. If the file is not valid, those that the running `up` has in force, after a line on standard error.

    Raises `SettingsError` if the file is not valid and no `up` runs with it.
    """
    loaded, _ = read_in_force_and_warning()
    return loaded


def read_in_force_and_warning() -> "tuple[Loaded, str | None]":
    """`read_in_force`, and the line that it printed, which names the fault. None if the file is valid."""
    from dagster_offload.service.pipeline import read_settings_in_force

    loaded, line = read_settings_in_force()
    if line is None:
        return loaded, None
    warning = " ".join(line.split())
    # Also with --quiet: what is shown may not be what the file says.
    click.echo(f"dagster-offload: {escaped(warning)}", err=True)
    return loaded, warning
