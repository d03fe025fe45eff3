"""The stages by name: their order, their upstreams, the outcomes a work item can have."""

from dataclasses import dataclass
from enum import StrEnum

EXTRACT = "extract"
CLASSIFY = "classify"
SUMMARIZE = "summarize"


@dataclass(frozen=True)
class StageNode:
    """A stage's place in the graph. `upstream` is the stage whose output it reads; None = it reads the file."""

    name: str
    upstream: str | None


# In declared order, upstreams first; exactly one reads the file. This is all that the ledger is given to know of stages.
GRAPH = (StageNode(EXTRACT, None), StageNode(CLASSIFY, EXTRACT), StageNode(SUMMARIZE, EXTRACT))

STAGE_NAMES = tuple(node.name for node in GRAPH)
DRAIN_STAGES = tuple(node.name for node in GRAPH if node.upstream is not None)
UPSTREAM = {node.name: node.upstream for node in GRAPH}

ASSET_KEYS = {EXTRACT: "extracted_text", CLASSIFY: "classification", SUMMARIZE: "summary"}


class Outcome(StrEnum):
    """How a DONE work item ended. All but OK made no call."""

    OK = "ok"
    EMPTY = "empty"  # the file holds nothing
    NO_TEXT = "no_text"  # a document without text
    NEEDS_OCR = "needs_ocr"  # pictures of text
