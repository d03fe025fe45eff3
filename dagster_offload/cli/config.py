"""`dagster-offload config`: show, check and change the settings, and describe the pipeline file for editors."""

from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.options import deep_options, home_option, json_option, library_option
from dagster_offload.cli.typed import typed_settings

if TYPE_CHECKING:
    from pathlib import Path

    from dagster_offload.settings import Loaded, Settings
    from dagster_offload.settings.leaves import Leaf


NOTHING = "-"
_EDITED = {"stages": "stages of your own", "on_record": "sinks", "notify": "channels"}


@click.group("config", cls=HintingGroup)
def command() -> None:
    """Show, check and change the settings of the pipeline file.

    \b
    dagster-offload config show
    dagster-offload config set slots.deep.concurrency auto
    """


@command.command("show")
@library_option
@deep_options
@home_option
@json_option
def show(*, as_json: bool) -> None:
    """Show every setting with its value and where the value came from. Secrets are hidden.

    \b
    dagster-offload config show
    dagster-offload config show --json | jq '.settings[] | select(.source != "default")'
    """
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings import read_settings
    from dagster_offload.settings.leaves import LEAVES, leaves_of_slots

    loaded = read_settings()
    leaves = (*LEAVES, *leaves_of_slots(loaded.settings.slots_section.further))
    rows = [_row(loaded, leaf) for leaf in leaves]
    if as_json:
        print_json({"file": loaded.file and str(loaded.file), "settings": rows})
        return
    say(f"pipeline file: {loaded.file or 'none'}")
    shown = table("setting", "value", "from")
    for row in rows:
        shown.add_row(row["key"], _as_text(row["value"]), row["origin"])
    to_terminal(shown)


@command.command("check")
@home_option
@json_option
def check(*, as_json: bool) -> None:
    """Check the pipeline file and the variables. Exits with code 2 and names every fault with its line and column.

    The key of a slot that is not set in this terminal is a warning, because only commands that use the slot need it.

    \b
    dagster-offload config check
    dagster-offload config check --config drafts/offload.yaml
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings import read_settings

    loaded = read_settings()
    keys = [slot.key_problem for slot in loaded.settings.slots if slot.key_problem is not None]
    warnings = [*_about_library(loaded.settings), *keys]
    if as_json:
        print_json({"file": loaded.file and str(loaded.file), "valid": True, "warnings": warnings})
        return
    say(f"{loaded.file}: valid" if loaded.file else "no pipeline file; the variables are valid")
    for warning in warnings:
        say(f"warning: {warning}", err=True)


@command.command("path")
@home_option
@json_option
def path(*, as_json: bool) -> None:
    """Print the path of the pipeline file. If there is none, print where `config set` and `up` create it.

    \b
    dagster-offload config path
    $EDITOR "$(dagster-offload config path)"
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings.loading import find_pipeline

    file = find_pipeline()
    if as_json:
        print_json({"path": str(file), "exists": file.exists()})
    else:
        say(str(file))


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of the pipeline file. Editors complete and explain keys with it.

    For the YAML support of VS Code and others, write `# yaml-language-server: $schema=offload.schema.json` as the first
    line of the pipeline file.

    \b
    dagster-offload config schema > offload.schema.json
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.settings.schema import json_schema

    print_json(json_schema())


@command.command("set")
@click.argument("key")
@click.argument("value")
@home_option
@json_option
def set_(key: str, value: str, *, as_json: bool) -> None:
    """Change one setting in the pipeline file. Comments stay. KEY is a key of the file or its variable.

    Stages of your own, sinks and channels are edited in the file itself. A value that makes the file wrong is refused. A
    running `up` takes over the change within seconds.

    \b
    dagster-offload config set slots.deep.concurrency auto
    dagster-offload config set stages.classify.classes 'invoice, contract, letter'
    dagster-offload config set slots.deep.api_key '${MACBOOK_KEY}'
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings.loading import find_pipeline, leaf_of, read_settings
    from dagster_offload.settings.writing import set_in_file
    from dagster_offload.slot.config import without_password

    file = find_pipeline()
    _refuse_what_is_edited(key, file)
    leaf = leaf_of(key)
    if (leaf.key[-1] == "api_key" or without_password(value) != value) and "${" not in value:
        raise click.UsageError(
            f"{leaf.dotted}: every user of this machine can read the arguments of a command. Write '${{VARIABLE}}' instead of "
            f"the secret, use api_key_file, or edit {file}"
        )
    before, after = (_shown(leaf, found) for found in set_in_file(file, leaf, value))
    loaded = read_settings()
    origin = loaded.origin(leaf)
    overridden = None if origin.kind == "file" else str(origin)
    is_about_library = leaf.key == ("library", "path") and overridden is None
    warnings = _about_library(loaded.settings) if is_about_library else []
    if as_json:
        changed = {"before": before, "after": after, "overridden_by": overridden}
        print_json({"file": str(file), "key": leaf.dotted, **changed, "warnings": warnings})
        return
    default = _as_text(_shown(leaf, leaf.field.get_default(call_default_factory=True)))
    was = (f"the default, {default}" if default != NOTHING else "not set") if before is None else _as_text(before)
    say(f"{file}: {leaf.dotted} is now {_as_text(after)} (it was {was})")
    if overridden is not None:
        say(f"warning: it has no effect here, because {overridden} overrides it", err=True)
    for warning in warnings:
        say(f"warning: {warning}", err=True)


def _refuse_what_is_edited(key: str, file: "Path") -> None:
    """Raise `UsageError` for a key of a stage of your own, a sink or a channel, with the line where the file has it."""
    from dagster_offload.settings import read_settings
    from dagster_offload.settings.leaves import keys_below

    section, *names = key.split(".")
    if not names or section not in _EDITED or (section == "stages" and names[0] in keys_below(("stages",))):
        return
    places = read_settings().tree.keys
    found = next((places[path] for n in range(len(names), 0, -1) if (path := (section, *names[:n])) in places), None)
    where = f"{file}:{found}" if found is not None else str(file)
    raise click.UsageError(f"{key}: {_EDITED[section]} are edited in the file itself: {where}")


def _about_library(settings: "Settings") -> list[str]:
    """A warning if the library is missing. It may be a folder that is not mounted now, so it is no error."""
    from dagster_offload.library.missing import why_missing

    problem = None if settings.library is None else why_missing(settings.library)
    return [] if problem is None else [f"the library {settings.library} {problem}"]


def _row(loaded: "Loaded", leaf: "Leaf") -> dict[str, Any]:
    origin = loaded.origin(leaf)
    typed = leaf.variable in typed_settings()
    return {
        "key": leaf.dotted,
        "variable": leaf.variable,
        "value": _shown(leaf, leaf.value_in(loaded.settings)),
        "source": "option" if typed else origin.kind,
        "origin": f"option --{leaf.variable.removeprefix('OFFLOAD_').lower().replace('_', '-')}"
        if typed
        else str(origin),
        "description": leaf.field.description,
    }


def _shown(leaf: "Leaf", value: Any) -> Any:
    from dagster_offload.settings.writing import as_yaml
    from dagster_offload.slot.config import without_password

    if value is None:
        return None
    if leaf.is_secret:
        return "(hidden)"
    if leaf.key[-1] == "url":
        return without_password(value)
    return as_yaml(value)


def _as_text(value: Any) -> str:
    if value in (None, [], ""):
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()  # as the file has it
    return ", ".join(value) if isinstance(value, list) else str(value)
