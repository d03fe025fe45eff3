"""`dagster-offload init`: write a pipeline file with comments. Asks on a terminal, and asks nothing when piped."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import TypedPath, deep_options, home_option, json_option, library_option


@click.command("init")
@click.argument("file", required=False, type=TypedPath())
@library_option
@deep_options
@home_option
@json_option
def command(file: Path | None, *, as_json: bool) -> None:
    """Write a pipeline file: every setting with its default and an explanation. FILE is offload.yaml in the home by default.

    On a terminal, it asks for the library and the deep slot. An existing file is never overwritten.

    \b
    dagster-offload init
    dagster-offload init ./offload.yaml --library ~/Documents --deep-url http://macbook.local:8890 --deep-model qwen-macbook
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings.loading import find_home, read_variables_only
    from dagster_offload.settings.writing import new_file, values_to_keep, write_private

    target = Path(os.path.abspath(file)) if file is not None else find_home() / "offload.yaml"
    if os.path.lexists(target):
        raise Refusal(f"{target} exists: edit it, or remove it first")
    values: dict[tuple[str, ...], Any] = values_to_keep(read_variables_only())
    if sys.stdin.isatty() and not as_json:
        _ask(values)
    write_private(target, new_file(values, find_home()))
    if as_json:
        print_json({"file": str(target)})
    else:
        say(f"Written: {target}\nNext: edit it, then run `dagster-offload config check` and `dagster-offload up`.")


def _ask(values: dict[tuple[str, ...], Any]) -> None:
    library, url, model = ("library", "path"), ("slots", "deep", "url"), ("slots", "deep", "model")
    if library not in values:
        answer = click.prompt("Folder of documents", default=str(Path.home() / "Documents"), err=True)
        values[library] = os.path.abspath(os.path.expanduser(answer))
        if not os.path.isdir(values[library]):
            click.echo(f"{values[library]} does not exist yet.", err=True)
    if url not in values:
        answer = click.prompt(
            "URL of the router in front of the large model (empty: none)", default="", show_default=False, err=True
        )
        if answer.strip():
            values[url] = answer.strip()
    if url in values and model not in values:
        values[model] = click.prompt("Model alias to request", default="qwen-macbook", err=True)
