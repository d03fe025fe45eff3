"""One round: processes start, one of them or their Postgres is killed at a random moment, and work starts again.

Moments are uniform over the life of the victim. The seed decides what happens, but the machine's timing varies.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil  # type: ignore[import-untyped]

from dagster_offload.postgres import is_running, server_pid
from dagster_offload.postgres.embedded.server import ensure_embedded
from tests.chaos.promises import AFTER_ALL_HAVE_ENDED, ALWAYS, check, check_calls
from tests.chaos.world import BrokenPromise, World, pause_until
from tests.support.acceptance import command_line, wait_for
from tests.support.stages import DRAIN_STAGES
from tests.support.ui import UI

DRAIN_LIFE_SECONDS = 12.0  # from its start to its end, with the documents below
SCAN_LIFE_SECONDS = 6.0
RUN_LIFE_SECONDS = 7.0  # of the process of a run over one document
LOCK_WAIT_SECONDS = 240.0  # the limit for a process whose permits a dead one holds, on a busy machine
AT_WORK, AFTERWARDS = "24", "4"  # documents of a drain that may die, and of the one after it
UNAVAILABLE = 75  # the slot, or Postgres
AWAY_TOO_LONG = "Postgres was unavailable for longer than Dagster waits"

FAULTS: tuple[dict[str, Any], ...] = (
    {"mode": "cold"},
    {"mode": "cold", "retry_after": "5"},
    {"mode": "warming"},
    {"mode": "busy", "retry_after": "5"},
    {"mode": "cut", "cut": "502"},
    {"mode": "cut", "cut": "mid_body"},
    {"mode": "cut", "cut": "before_answer"},
    {"mode": "refuse", "status": 500},
    {"mode": "refuse", "status": 429, "retry_after": "1"},
    {"latency": 3.0},
)
NO_FAULT: dict[str, Any] = {"mode": "awake", "latency": 0.4, "retry_after": None, "cut": "502"}

Round = Callable[[World], None]
Plan = list[tuple[float, Callable[[], object]]]  # seconds from the start, and the action


def play(world: World, number: int, round_: Round) -> str:
    """Play a round and check the promises; returns one line about it. Raises `BrokenPromise`."""
    world.round_number = number
    began, before = time.monotonic(), len(world.kills)
    round_(world)
    check(world, ALWAYS)
    check(world, AFTER_ALL_HAVE_ENDED)
    answers, repeats = check_calls(world)
    killed = ", ".join(kill.what for kill in world.kills[before:]) or "nothing, because it had ended"
    [row] = world.sql("select count(*) filter (where state = 'done') as done, count(*) as items from work_items")
    return (
        f"{round_.__name__.replace('_', ' ')}: killed {killed}; {row['done']} of {row['items']} items done, "
        f"{answers} answers, {repeats} repeats, {time.monotonic() - began:.0f} s"
    )


# Rounds with nothing but drains and scans


def a_drain_dies(world: World) -> None:
    victim, others, plan = _drains(world)
    plan.append((world.rng.uniform(0, DRAIN_LIFE_SECONDS), lambda: world.kill(victim, "a drain", workers=1)))
    _follow(world, plan)
    _end(world, others)


def all_drains_die(world: World) -> None:
    victim, others, plan = _drains(world)
    at = world.rng.uniform(0, DRAIN_LIFE_SECONDS)
    plan += [(at, partial(world.kill, drain, "a drain", workers=1)) for drain in (victim, *others)]
    _follow(world, plan)
    _end(world, [])


def postgres_is_killed(world: World) -> None:
    first, others, plan = _drains(world)
    _postgres_dies(world, plan, signal.SIGKILL)
    _follow(world, plan)
    _end(world, [first, *others])


def postgres_stops_at_once(world: World) -> None:
    first, others, plan = _drains(world)
    _postgres_dies(world, plan, signal.SIGQUIT)
    _follow(world, plan)
    _end(world, [first, *others])


def a_drain_and_postgres_die(world: World) -> None:
    victim, others, plan = _drains(world)
    at = world.rng.uniform(0, DRAIN_LIFE_SECONDS)
    plan.append((at, lambda: world.kill(victim, "a drain", workers=1)))
    _postgres_dies(world, plan, signal.SIGKILL, at)
    _follow(world, plan)
    _end(world, others)


def a_scan_dies(world: World) -> None:
    world.library.change(letters=20)
    scan = world.start("scan")
    _follow(world, [(world.rng.uniform(0, SCAN_LIFE_SECONDS), lambda: world.kill(scan, "a scan"))])
    _scan(world)
    _end(world, [])


def _drains(world: World) -> "tuple[subprocess.Popen[str], list[subprocess.Popen[str]], Plan]":
    """Start one or two drains with enough work; also returns a plan with the slot's faults."""
    [row] = world.sql("select count(*) as n from work_items where state in ('pending', 'deferred')")
    if row["n"] < world.changed_at_once:
        world.library.change(world.changed_at_once)
        _scan(world)
    drains = [world.start("drain", "--limit", AT_WORK) for _ in range(world.rng.choice((1, 1, 2)))]
    return drains[0], drains[1:], _faults(world, DRAIN_LIFE_SECONDS)


def _faults(world: World, life_seconds: float) -> Plan:
    """In every second round the slot has a fault for some seconds."""
    if world.rng.random() < 0.5:
        return []
    fault, at = world.rng.choice(FAULTS), world.rng.uniform(0, life_seconds)
    return [
        (at, lambda: world.slot.set(**fault)),
        (at + world.rng.uniform(1, 5), lambda: world.slot.set(**NO_FAULT)),
    ]


def _postgres_dies(world: World, plan: Plan, how: signal.Signals, at: float | None = None) -> None:
    """Kill Postgres. In half of the rounds it is started again here, in the others by the drains."""
    at = world.rng.uniform(0, DRAIN_LIFE_SECONDS) if at is None else at
    plan.append((at, lambda: world.kill_postgres(how)))
    if world.rng.random() < 0.5:
        plan.append((at + world.rng.uniform(0, 8), lambda: _start_postgres(world)))


def _start_postgres(world: World) -> None:
    ensure_embedded(world.home.home)


def _follow(world: World, plan: Plan) -> None:
    began = time.monotonic()
    for seconds, act in sorted(plan, key=lambda moment: moment[0]):
        pause_until(began + seconds)
        act()


def _scan(world: World) -> None:
    scan = world.start("scan")
    if (code := world.finish(scan, LOCK_WAIT_SECONDS)) != 0:
        raise BrokenPromise(f"a scan that is not killed exits with 0, not {code}")


def _end(world: World, survivors: "list[subprocess.Popen[str]]") -> None:
    """Processes that were not killed end by themselves. Another drain then processes what the killed ones left."""
    for process in survivors:
        _expect_end(world, process)
    if world.rng.random() < 0.7:
        world.let_the_dead_look_dead()
    world.let_every_wait_be_over()
    _expect_end(world, world.start("drain", "--limit", AFTERWARDS))


def _expect_end(world: World, drain: "subprocess.Popen[str]") -> None:
    """Wait for the drain to end. Dagster waits six seconds for Postgres; a longer outage may end the drain with that message."""
    code = world.finish(drain, LOCK_WAIT_SECONDS)
    if code == UNAVAILABLE and world.home.said.count(AWAY_TOO_LONG) > world.ended_by_dagster:
        world.ended_by_dagster += 1
    elif code not in (0, UNAVAILABLE):
        raise BrokenPromise(f"a drain that is not killed exits with 0 or {UNAVAILABLE}, not {code}")


# Rounds under `up`


def a_persons_run_dies(world: World) -> None:
    with_up(world, "a run", _newest_run, RUN_LIFE_SECONDS)


def the_daemon_dies(world: World) -> None:
    with_up(world, "the daemon", lambda world: _child(world, "dagster-daemon"))


def the_code_server_dies(world: World) -> None:
    with_up(world, "the code server", lambda world: _child(world, "api grpc"))


def the_webserver_dies(world: World) -> None:
    with_up(world, "the webserver", lambda world: _child(world, "dagster-webserver"))


def postgres_dies_under_up(world: World) -> None:
    with_up(world, "Postgres under up", _postmaster)


def everything_dies(world: World) -> None:
    with_up(world, "the whole tree", lambda world: None)


Find = Callable[[World], psutil.Process | None]


def with_up(world: World, what: str, find: Find, life_seconds: float = DRAIN_LIFE_SECONDS) -> None:
    """`up` works on a run that a person launched; the victim dies within the run's life; later runs must succeed."""
    world.library.change(letters=10)
    up = world.home.up()
    ui = UI(world.home)
    plan = _faults(world, life_seconds)
    launched_at = time.time()
    _launch(world, ui)
    if what == "a run":
        wait_for(lambda: (run := find(world)) is not None and run.create_time() > launched_at, "the run's process")

    def kill() -> None:
        if what == "the whole tree":
            world.kill_everything()
        elif (victim := find(world)) is not None:
            world.kill(victim, what, workers=int(what == "a run"))

    plan.append((world.rng.uniform(0, life_seconds), kill))
    _follow(world, plan)
    world.slot.set(**NO_FAULT)
    if what == "the whole tree":
        up = world.home.up()
    elif what == "Postgres under up":
        wait_for(lambda: is_running(world.home.home), "Postgres, started again by `up`")
    _expect_runs_to_succeed(world, ui)
    _stop(world, up)
    world.let_the_dead_look_dead()
    world.let_every_wait_be_over()
    _expect_end(world, world.start("drain", "--limit", AFTERWARDS))


def _launch(world: World, ui: UI) -> str:
    """Materialize a document with work to do."""
    rows = world.sql(
        "select d.key from documents d where is_present and not exists (select 1 from work_items i "
        "where i.document_id = d.document_id and i.stage = 'classify' and i.state = 'done') order by document_id desc limit 5"
    ) or world.sql("select key from documents where is_present limit 5")
    return ui.materialize(world.rng.choice(rows)["key"], *DRAIN_STAGES)


def _expect_runs_to_succeed(world: World, ui: UI) -> None:
    """A launched run succeeds again, so webserver, daemon, code server and Postgres are running again."""
    deadline = time.monotonic() + 180
    while True:
        try:
            run = _launch(world, ui)
            status = ui.end_of(run)
        except Exception as error:
            if time.monotonic() > deadline:
                raise BrokenPromise(
                    f"runs can be launched again within minutes ({type(error).__name__}: {error})"
                ) from error
            time.sleep(1)
            continue
        if status == "SUCCESS":
            return
        if time.monotonic() > deadline:
            raise BrokenPromise(f"a run launched after the restart ends in success, not in {status}")


def _stop(world: World, up: "subprocess.Popen[str]") -> None:
    began = time.monotonic()
    stopped = world.stop()
    seconds = time.monotonic() - began
    if stopped.returncode != 0 or world.finish(up, LOCK_WAIT_SECONDS) != 0:
        raise BrokenPromise(f"`stop` and the `up` that it ends exit with 0: {stopped.returncode}, {up.returncode}")
    if left := world.home.processes():
        raise BrokenPromise(
            f"no process is left after `stop` ({seconds:.0f} s)",
            [{"pid": process.pid, "what": process.info["name"]} for process in left],
        )


def _newest_run(world: World) -> psutil.Process | None:
    """The newest process of a run, whether a person or the sensor launched it; the code server starts them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        server = _child(world, "api grpc")
        found = [] if server is None else [p for p in server.children() if "spawn_main" in " ".join(p.cmdline())]
        return max(found, key=lambda process: process.create_time(), default=None)
    return None


def _child(world: World, command: str) -> psutil.Process | None:
    found = {p.pid: p for p in world.home.processes() if command in command_line(p)}
    # Runs are forked from a copy of the code server and have its command line.
    return next((p for p in found.values() if p.info["ppid"] not in found), None)


def _postmaster(world: World) -> psutil.Process | None:
    pid = server_pid(world.home.home)
    return None if pid is None else psutil.Process(pid)


# How often each round is played, of a hundred
WEIGHTS: dict[Round, int] = {
    a_drain_dies: 30,
    all_drains_die: 10,
    postgres_is_killed: 19,
    postgres_stops_at_once: 17,
    a_drain_and_postgres_die: 5,
    a_scan_dies: 5,
    a_persons_run_dies: 3,
    the_daemon_dies: 2,
    the_code_server_dies: 2,
    the_webserver_dies: 2,
    postgres_dies_under_up: 2,
    everything_dies: 3,
}
