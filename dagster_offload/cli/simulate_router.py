"""`dagster-offload simulate-router`: run the stand-in router in the foreground."""

import contextlib
from pathlib import Path

import click

from dagster_offload.cli.options import TypedPath

EXAMPLES = """\b
Examples:
  dagster-offload simulate-router --asleep
  curl -X POST localhost:8890/admin/state -d '{"mode": "awake"}'
  curl localhost:8890/admin/log
\b
  dagster-offload simulate-router --latency 2 --concurrency 1 --script day.json
with day.json (asleep; wakes after 20 s; after 10 answers it is busy for a minute):
  [{"set": {"mode": "cold"}},
   {"after_seconds": 20, "set": {"mode": "awake"}},
   {"after_answers": 10, "set": {"mode": "busy", "retry_after": "60"}},
   {"after_seconds": 60, "set": {"mode": "awake"}}]
\b
Modes: awake, cold, warming, busy, refuse (with "status"), hang, cut (with "cut").
Also "answers", how completions are answered: good, or a fault, such as empty, thinking, garbage (no JSON), length (cut).
"""


@click.command("simulate-router", epilog=EXAMPLES)
@click.option(
    "--port",
    default=8890,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--script",
    "script_file",
    type=TypedPath(exists=True, dir_okay=False),
    help="JSON file with a list of steps that change the behaviour over time.",
)
@click.option("--asleep", is_flag=True, help="Start asleep: completions get 503 upstream_cold.")
@click.option("--latency", default=0.5, show_default=True, type=click.FloatRange(0), help="Seconds per answer.")
@click.option("--concurrency", default=2, show_default=True, type=click.IntRange(1), help="Answers generated at once.")
def command(port: int, host: str, script_file: Path | None, asleep: bool, latency: float, concurrency: int) -> None:
    """Run a stand-in for the router and its large model.

    It is OpenAI-compatible and needs no model: answers are extracts of the document. A script or admin requests make it
    sleep, warm up, be busy or cut answers off. Use it for demos, tests and experiments.
    """
    from dagster_offload.simulator.app import RouterApp
    from dagster_offload.simulator.script import Behaviour, read_script
    from dagster_offload.simulator.server import listen, serve

    try:
        steps = () if script_file is None else read_script(script_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--script") from None
    try:
        listening = listen(host, port)
    except OSError as error:
        raise click.UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another port with --port, or --port 0 for a free one"
        ) from None
    behaviour = Behaviour(mode="cold" if asleep else "awake", latency=latency, concurrency=concurrency)
    address = listening.getsockname()
    started = f"Stand-in router on http://{address[0]}:{address[1]} ({behaviour.mode}); press Ctrl-C to stop."
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is its usual end, so the exit code is 0
        serve(listening, RouterApp(behaviour, steps), lambda: click.echo(started))
