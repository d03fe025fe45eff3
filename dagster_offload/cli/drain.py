"""`dagster-offload drain`: run the drain sensor's job now, in this process."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.completion import complete_stage
from dagster_offload.cli.exits import ExitCode
from dagster_offload.cli.options import deep_options, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from dagster_offload.drain import DrainSummary

# Counts of the summary, with their names in the output.
COUNTS = {
    "done": "done",
    "answered_in_part": "answered in part",
    "failed": "failed",
    "deferred": "deferred",
    "left": "left",
    "in_back_off": "of them waiting for their next attempt",
    "held_elsewhere": "held by other workers",
}
TOKENS = ("tokens_read", "tokens_cached", "tokens_written")


@click.command("drain")
@click.argument("stage", default="all", shell_complete=complete_stage)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Process at most N documents.")
@home_option
@deep_options
@json_option
def command(stage: str, *, limit: int | None, as_json: bool) -> None:
    """Process the backlog on the deep slot. STAGE is classify, summarize, a stage of your own, or all.

    Dagster's UI shows the run like the sensor's own runs.

    Exit codes: 0 = nothing is left that this command could do now; 75 = work is left because the slot or Postgres is
    unavailable; 78 = work is left because the slot is misconfigured or holds a stage; 2 = wrong usage or settings.

    \b
    dagster-offload drain
    dagster-offload drain summarize --limit 20
    dagster-offload drain --json || echo "try again later"
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.drain import DrainSummary, check_drain
    from dagster_offload.settings import load_settings

    settings = load_settings()
    _, stages = check_drain(settings, stage)  # raises before Postgres, the library or Dagster is used
    from dagster_offload.cli.run_job import run_job
    from dagster_offload.ledger.core.opening import refuse_empty_home

    refuse_empty_home(settings)
    summary = run_job(settings, "drain", DrainSummary, stages, progress_console(), stage=stage, limit=limit)
    if as_json:
        print_json(
            {
                name: getattr(summary, name)
                for name in (*COUNTS, "waits_for", "reason", "next_check_at", *TOKENS, "warning")
            }
        )
    else:
        _print(summary, settings.home)
    if summary.is_misconfigured:
        raise click.exceptions.Exit(ExitCode.MISCONFIGURED)
    if summary.is_slot_unavailable:
        raise click.exceptions.Exit(ExitCode.UNAVAILABLE)


def _print(summary: "DrainSummary", home: "Path") -> None:
    from dagster_offload.cli.formatting import say
    from dagster_offload.stages.graph import EXTRACT

    counts = ", ".join(
        f"{count} {label}" for name, label in COUNTS.items() if (count := getattr(summary, name)) or name == "done"
    )
    waits_for_a_person = summary.is_misconfigured and summary.next_check_at is None
    next_check = "" if waits_for_a_person else _next_check(home, summary.next_check_at)
    why = f"; stopped: {summary.reason}{next_check}" if summary.reason else ""
    if not (summary.reason or summary.waits_for or any(getattr(summary, name) for name in COUNTS)):
        why = ": nothing was left to do"
    say(f"{counts}{why}")
    for stage, count in summary.waits_for.items():
        command = "scan" if stage == EXTRACT else f"drain {stage}"
        say(f"{count} more cannot start before their {stage} is done: dagster-offload {command}")
    if summary.tokens_written:
        cached = summary.tokens_cached
        reused = "" if cached is None else f", {cached:,} more from the server's cache"
        click.echo(f"tokens: {summary.tokens_read:,} read{reused}, {summary.tokens_written:,} written")
    if summary.warning:
        say(summary.warning, err=True)


def _next_check(home: "Path", next_check_at: str | None) -> str:
    """When the slot is checked again, if a process of this home does that."""
    from dagster_offload.cli.formatting import describe_time
    from dagster_offload.service.home import running_up

    if running_up(home) is None:
        return "; to continue, run this command again or start `dagster-offload up`"
    if next_check_at is None:
        return ""
    return f"; `up` checks it again at {describe_time(datetime.fromisoformat(next_check_at))}"
