"""The stages by name: their order, what each needs, and the outcomes of a work item."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

EXTRACT = "extract"
CLASSIFY = "classify"
SUMMARIZE = "summarize"


@dataclass(frozen=True)
class StageNode:
    """A stage and what it needs.

    `upstream` is the stage whose output it reads; None means that it reads the file. `condition` says which answers of
    other stages it needs to be asked: by stage and field, the values of which one must be there.
    """

    name: str
    upstream: str | None
    condition: Mapping[str, Mapping[str, Sequence[Any]]] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that must be done before this one can start."""
        upstream = () if self.upstream is None else (self.upstream,)
        return tuple(dict.fromkeys((*upstream, *(self.condition or ()))))


@dataclass(frozen=True)
class StageGraph:
    """The stages of a pipeline in the order in which a document goes through them: each one after those it needs."""

    nodes: tuple[StageNode, ...]

    def __iter__(self) -> Iterator[StageNode]:
        return iter(self.nodes)

    @property
    def names(self) -> tuple[str, ...]:
        """All stages."""
        return tuple(node.name for node in self.nodes)

    @property
    def drain_stages(self) -> tuple[str, ...]:
        """The stages that a slot answers: all but the one that reads the file."""
        return tuple(node.name for node in self.nodes if node.upstream is not None)

    def has_followers(self, stages: Sequence[str]) -> bool:
        """Whether another stage needs the answer of one of `stages`."""
        return any(need in stages for node in self.nodes for need in node.needs)

    def with_needs(self, stages: Sequence[str]) -> tuple[str, ...]:
        """These stages and all that they need, in order."""
        wanted = set(stages)
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(node.needs)
        return tuple(name for name in self.names if name in wanted)

    def node(self, name: str) -> StageNode:
        """The stage of this name. Raises `KeyError`."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


BUILT_IN = StageGraph((StageNode(EXTRACT, None), StageNode(CLASSIFY, EXTRACT), StageNode(SUMMARIZE, EXTRACT)))

_ASSETS = {EXTRACT: "extracted_text", CLASSIFY: "classification", SUMMARIZE: "summary"}


def asset_name(stage: str) -> str:
    """The name of a stage's asset: the stage's own, except for the built-in stages."""
    return _ASSETS.get(stage, stage)


class Outcome(StrEnum):
    """How a DONE work item ended. Only OK involved a call."""

    OK = "ok"
    EMPTY = "empty"  # the file is empty
    NO_TEXT = "no_text"  # the document holds no text
    NEEDS_OCR = "needs_ocr"  # the document holds pictures of text
    NOT_APPLICABLE = "not_applicable"  # the stage's condition is not met
