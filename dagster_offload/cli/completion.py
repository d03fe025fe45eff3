"""`dagster-offload completion show|install`: completion of commands, options, documents and stages by the shell."""

import os
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from dagster_offload.cli import HintingGroup, main
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import json_option


class QuotingBashComplete(BashComplete):
    """Quotes what it inserts, as zsh and fish do: a document may be called `$(reboot).pdf`. Click's own script does not.

    It completes no word that begins with a quote: what `printf %q` writes means something else inside quotes.
    """

    source_template = """\
%(complete_func)s() {
    local response type value word=${COMP_WORDS[COMP_CWORD]//\\\\?/}
    case $word in *[\\"\\']*) COMPREPLY=(); return 0 ;; esac
    response=$(IFS=$'\\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
    while IFS=, read -r type value; do
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$(printf %%q "$value")") ;;
        esac
    done <<< "$response"
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


SHELLS: dict[str, type[ShellComplete]] = {"bash": QuotingBashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAM = "dagster-offload"
VARIABLE = "_DAGSTER_OFFLOAD_COMPLETE"
MOST_DOCUMENTS = 200
MARK = "# dagster-offload completion"


@click.group("completion", cls=HintingGroup)
def command() -> None:
    """Let the shell complete commands, options, documents and stages with the Tab key.

    \b
    dagster-offload completion install
    """


@command.command("show")
@click.argument("shell", type=click.Choice(list(SHELLS)), required=False)
def show(shell: str | None) -> None:
    """Print the completion script of a shell. Default: the shell of $SHELL.

    \b
    eval "$(dagster-offload completion show bash)"
    """
    click.echo(_script(shell or _shell()))


@command.command("install")
@click.argument("shell", type=click.Choice(list(SHELLS)), required=False)
@json_option
def install(shell: str | None, *, as_json: bool) -> None:
    """Install the completion for a shell, for this user. Default: the shell of $SHELL. Running it again does no harm.

    \b
    dagster-offload completion install
    dagster-offload completion install zsh
    """
    from dagster_offload.cli.formatting import print_json, say

    shell = shell or _shell()
    files = _install(shell, _script(shell))
    if as_json:
        print_json({"shell": shell, "files": [str(file) for file in files]})
    else:
        say(f"Installed for {shell}: {', '.join(map(str, files))}\nOpen a new terminal to use it.")


def _shell() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise Refusal(
            f"$SHELL names no shell that can be completed ({name or 'it is not set'}): name one of {', '.join(SHELLS)}"
        )
    return name


def _script(shell: str) -> str:
    return SHELLS[shell](main, {}, PROGRAM, VARIABLE).source()


def _install(shell: str, script: str) -> list[Path]:
    """Write the script where the shell looks for it; for zsh also a line in its start file. Returns the files."""
    data = _folder("XDG_DATA_HOME", ".local/share")
    places = {
        "bash": data / "bash-completion" / "completions" / PROGRAM,
        "zsh": data / PROGRAM / "completion.zsh",
        "fish": _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / f"{PROGRAM}.fish",
    }
    file = places[shell]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(script, encoding="utf-8")
        if shell != "zsh":
            return [file]
        start = Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
        before = start.read_text(encoding="utf-8") if start.exists() else ""
        if MARK not in before:
            with start.open("a", encoding="utf-8") as end:
                end.write(f"\n{MARK}\nautoload -Uz compinit && compinit\nsource {file}\n")
        return [file, start]
    except OSError as error:
        raise Refusal(f"{error.filename} cannot be written: {error.strerror}") from error


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)


def complete_document(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The keys of documents that begin like this. Empty if Postgres does not run, or has no ledger of this version:
    the Tab key starts no server and migrates nothing.
    """
    from psycopg import Error as PostgresError

    from dagster_offload.errors import OffloadError
    from dagster_offload.ledger.core.opening import reach_ledger
    from dagster_offload.ledger.reports import names
    from dagster_offload.postgres import is_running
    from dagster_offload.settings import load_settings

    try:
        settings = load_settings()
        if settings.postgres_url is None and not is_running(settings.home):
            return []
        with reach_ledger(settings) as ledger:
            return [CompletionItem(key) for key in ledger.run(names.beginning_with, incomplete, MOST_DOCUMENTS)]
    except (OffloadError, PostgresError):  # the command itself will say what is wrong
        return []


def complete_stage(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The stages that begin like this, including the user's own."""
    from dagster_offload.errors import OffloadError
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    try:
        stages = stage_graph(load_settings()).names
    except OffloadError:  # the command itself will say what is wrong
        return []
    return [CompletionItem(name) for name in stages if name.startswith(incomplete)]
