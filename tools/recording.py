"""Records docs/recording.svg: a real `up` in a terminal, while the slot sleeps twice. Run it with `make recording`.

The slot is the stand-in router, and the library is the sample library. Nothing is retouched, but pauses are shortened.
"""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster_offload.postgres import stop_postgres
from dagster_offload.simulator import Router
from tests.support.patience import PATIENCE_SECONDS
from tools.terminal_svg import Line, animated

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "recording.svg"
COLUMNS, ROWS = 100, 26
PROGRAM = Path(sys.executable).parent / "dagster-offload"
ANSWERS_BEFORE_SLEEP = (12, 30)
SLEEP_SECONDS = 12.0
PROMPT = "\x1b[1;32m$\x1b[0m "


class Terminal:
    """A terminal of its own, in which commands run one after another. Keeps each line with its time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")} | {
            "TERM": "xterm-256color",
            "OFFLOAD_HOME": str(folder / "home"),
        }
        self._environment.pop("NO_COLOR", None)
        self.lines: list[Line] = []
        self._changed = threading.Condition()

    @contextmanager
    def running(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run `dagster-offload` with these arguments; leaving waits for its end."""
        self._add(f"{PROMPT}\x1b[1mdagster-offload {' '.join(arguments)}\x1b[0m")
        ours, its = os.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            (PROGRAM, *arguments), stdin=its, stdout=its, stderr=its, env=self._environment, cwd=self._folder
        )
        os.close(its)
        reader = threading.Thread(target=self._read, args=[ours])
        reader.start()
        try:
            yield process
        finally:
            process.wait(PATIENCE_SECONDS)
            reader.join()
            os.close(ours)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until so many lines have this text. Raises `TimeoutError`."""

        def has_appeared() -> bool:
            return sum(text in line.text for line in self.lines) >= times

        with self._changed:
            if not self._changed.wait_for(has_appeared, PATIENCE_SECONDS):
                raise TimeoutError(f"{text!r} did not appear")

    def _read(self, terminal: int) -> None:
        line = b""
        while part := _some(terminal):
            *complete, line = (line + part).split(b"\n")
            for text in complete:
                self._add(text.decode().rstrip("\r"))

    def _add(self, text: str) -> None:
        with self._changed:
            self.lines.append(Line(time.monotonic(), text))
            self._changed.notify_all()


def _some(terminal: int) -> bytes:
    """What the terminal has to read. Empty when its last writer has closed it, which Linux reports as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="me-", dir="/tmp"))  # short, because the recording shows it
    folder.chmod(0o711)  # root's Postgres runs as another user
    shutil.copytree(ROOT / "fixtures" / "library", folder / "Documents")
    try:
        yield folder
    finally:
        stop_postgres(folder / "home")
        shutil.rmtree(folder)


def record() -> list[Line]:
    """The lines of `up` on a slot that goes away twice, and of two commands after it."""
    with Router(8890, latency=0.6) as router, _folder() as folder:
        terminal = Terminal(folder)
        options = ("--library", "Documents", "--deep-url", router.url, "--deep-model", "qwen-macbook")
        with terminal.running("up", *options) as up:
            for times, answers in enumerate(ANSWERS_BEFORE_SLEEP, 1):
                router.wait(answers=answers, timeout=PATIENCE_SECONDS)
                router.set(mode="cold")
                terminal.wait_for("unavailable", times)
                time.sleep(SLEEP_SECONDS)  # it is the slot that sleeps
                router.set(mode="awake")
            terminal.wait_for("all done")
            up.send_signal(signal.SIGINT)
        for command in (("explain", "interrupted"), ("records", "--where", "category=invoice")):
            with terminal.running(*command):
                pass
    return terminal.lines


def main() -> None:
    """Write the recording."""
    FILE.write_text(animated(record(), COLUMNS, ROWS), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
