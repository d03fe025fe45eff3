"""The steps at the start of `up`, each of which may wait up to a minute for the user's own Postgres.

They run in a thread, so that `up` can say what it waits for, and can end at once when a stop is requested.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from time import monotonic
from typing import ParamSpec, TypeVar

from dagster_offload.errors import StoppedWaiting
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.postgres.external import normalised
from dagster_offload.postgres.urls import shown_address
from dagster_offload.service.say import Say
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.settings import Settings

QUIET_SECONDS = 2.0
CHECK_STOP_SECONDS = 0.02

P = ParamSpec("P")
T = TypeVar("T")


class PostgresWait:
    """Runs the steps of one start. Says once that it waits for Postgres, when a step takes longer than two seconds.

    A step may also wait for another process, or migrate a large ledger: no cause is claimed.
    """

    def __init__(self, settings: Settings, stop: StopRequest, say: Say) -> None:
        own = settings.postgres_url
        # An embedded Postgres is not waited for: it is started, and a stop meanwhile stops it when it has started.
        self._place = None if own is None else shown_address(normalised(own.get_secret_value()))
        self._stop, self._say = stop, say
        self._is_said = False

    def run(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step, and return what it returns. Raises what it raises, and `StoppedWaiting`."""
        if self._place is None:
            return step(*args, **kwargs)
        began, running = monotonic(), start_in_daemon_thread(step, *args, **kwargs)
        while not running.done():
            if self._stop.wait(CHECK_STOP_SECONDS):
                raise StoppedWaiting(f"Stopped before the ledger at {self._place} was ready.")
            if not self._is_said and monotonic() - began > QUIET_SECONDS:
                self._is_said = True
                self._say(
                    f"Waiting for Postgres at {self._place} (OFFLOAD_POSTGRES_URL): it does not answer, or is still working. "
                    "To stop: Ctrl-C, or dagster-offload stop."
                )
        return running.result()

    @contextmanager
    def entered(self, manager: AbstractContextManager[T]) -> Iterator[T]:
        """The context of a manager for the block; entering it is a step."""
        with ExitStack() as stack:
            yield self.run(stack.enter_context, manager)
