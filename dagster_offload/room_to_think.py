"""Room for a server that thinks whatever it is told: added to an answer's own tokens, as far as the context has any left.

Servers that add the bound to the prompt refuse a request whose sum their context does not hold, be the document ever so
short.
"""

from dataclasses import dataclass, replace

from dagster_offload.chat import DEFAULT_MAX_TOKENS, room_to_think
from dagster_offload.completion import Answer, RequestOptions
from dagster_offload.context_window import ContextWindows
from dagster_offload.dialects import Dialects, Wish
from dagster_offload.slots import SlotConfig
from dagster_offload.stages.long_documents import TooLong


@dataclass
class RoomToThink:
    """The room that the requests about one passage have, one after the other."""

    slot: SlotConfig
    dialects: Dialects
    windows: ContextWindows
    _wanted: int = 0
    _given: int = 0
    _refused: int | None = None  # so much was too long

    def added_to(self, options: RequestOptions, prompt: str) -> RequestOptions:
        """`options` for the next request, whose messages are `prompt`."""
        self._wanted = self._given = 0
        if options.thinking is None or self.dialects.way(Wish.NO_THINKING) is not None:
            return options
        bound = DEFAULT_MAX_TOKENS if options.max_tokens is None else options.max_tokens
        self._wanted = room_to_think(bound)
        left = self.windows.tokens_left(self.slot, prompt, bound)
        room = self._wanted if left is None else min(self._wanted, left)
        self._given = 0 if self._refused is not None and room >= self._refused else room
        return replace(options, most_to_think=self._given)

    def is_to_blame(self, too_long: TooLong) -> bool:
        """Whether a request that was too long had room added. It is sent again before anything is split or blamed: with
        as much as the refusal's number leaves, else without."""
        self.windows.learn(self.slot, too_long)
        if self._given == 0:
            return False
        self._refused = self._given
        return True

    def was_too_small(self, answer: str) -> bool:
        """Whether an answer ended at its bound, and the context had less left for thinking than it usually gets."""
        return isinstance(answer, Answer) and answer.finish_reason == "length" and self._given < self._wanted
