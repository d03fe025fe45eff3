"""What sinks and channels have in common: each of them is a recipient, which takes messages one at a time."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from dagster_offload.errors import SettingsError
from dagster_offload.sinks.faults import Blame, SinkFault

MessageT_contra = TypeVar("MessageT_contra", contravariant=True)
WrittenT_co = TypeVar("WrittenT_co", covariant=True)
MessageT = TypeVar("MessageT")
WrittenT = TypeVar("WrittenT")


class Recipient(Protocol[MessageT_contra, WrittenT_co]):
    """A sink of records, or a channel of notifications."""

    def send(self, message: MessageT_contra) -> WrittenT_co:
        """Return when the message has arrived, with what was written elsewhere. Raises `SinkFault`."""

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""


class Unbuilt(Generic[MessageT_contra, WrittenT_co]):
    """A recipient whose settings are wrong, or whose secret cannot be read. Its messages wait with that reason.

    It is built when something is sent, so a secret file that appears later is found.
    """

    def __init__(self, build: Callable[[], Recipient[MessageT_contra, WrittenT_co]]) -> None:
        """`build` may raise `SettingsError`."""
        self._build = build
        # Kept once it works, because each TLS context takes longer than a request.
        self._built: Recipient[MessageT_contra, WrittenT_co] | None = None

    def send(self, message: MessageT_contra) -> WrittenT_co:
        """Send if the recipient can be built now. Raises `SinkFault`."""
        if self._built is None:
            self._built = self._build_now()
        try:
            return self._built.send(message)
        except SinkFault as fault:
            if fault.blame is Blame.MISCONFIGURED:  # perhaps by what the file contained
                self._built = None
            raise

    def cancel(self) -> None:
        """End a `send` in another thread early, where that is possible."""
        built = self._built  # read once: the other thread may reset it
        if built is not None:
            built.cancel()

    def _build_now(self) -> Recipient[MessageT_contra, WrittenT_co]:
        try:
            return self._build()
        except SettingsError as error:
            raise SinkFault(Blame.MISCONFIGURED, "; ".join(map(str, error.args))) from None


def built(
    build: Callable[[], Recipient[MessageT, WrittenT]],
) -> tuple[Recipient[MessageT, WrittenT], SettingsError | None]:
    """The recipient. If it cannot be built yet, its stand-in, and why."""
    try:
        return build(), None
    except SettingsError as error:
        return Unbuilt(build), error
