"""The stages by name: their order, their upstreams, and the outcomes of a work item."""

from dataclasses import dataclass
from enum import StrEnum

EXTRACT = "extract"
CLASSIFY = "classify"
SUMMARIZE = "summarize"


@dataclass(frozen=True)
class StageNode:
    """A stage and its upstream. `upstream` is the stage whose output it reads; None means that it reads the file."""

    name: str
    upstream: str | None


# In declared order, upstreams first; exactly one reads the file. The ledger knows nothing else about stages.
GRAPH = (StageNode(EXTRACT, None), StageNode(CLASSIFY, EXTRACT), StageNode(SUMMARIZE, EXTRACT))

STAGE_NAMES = tuple(node.name for node in GRAPH)
DRAIN_STAGES = tuple(node.name for node in GRAPH if node.upstream is not None)
UPSTREAM = {node.name: node.upstream for node in GRAPH}

ASSET_KEYS = {EXTRACT: "extracted_text", CLASSIFY: "classification", SUMMARIZE: "summary"}


class Outcome(StrEnum):
    """How a DONE work item ended. Only OK involved a call."""

    OK = "ok"
    EMPTY = "empty"  # the file is empty
    NO_TEXT = "no_text"  # the document holds no text
    NEEDS_OCR = "needs_ocr"  # the document holds pictures of text
