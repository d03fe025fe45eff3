"""The stages by name: their order, their upstreams, the outcomes a work item can have."""

from enum import StrEnum

EXTRACT = "extract"


CLASSIFY = "classify"


SUMMARIZE = "summarize"


STAGE_NAMES = (EXTRACT, CLASSIFY, SUMMARIZE)


DRAIN_STAGES = (CLASSIFY, SUMMARIZE)


UPSTREAM = {EXTRACT: None, CLASSIFY: EXTRACT, SUMMARIZE: EXTRACT}


ASSET_KEYS = {EXTRACT: "extracted_text", CLASSIFY: "classification", SUMMARIZE: "summary"}


class Outcome(StrEnum):
    """How a DONE work item ended. All but OK made no call."""

    OK = "ok"
    EMPTY = "empty"  # the file holds nothing
    NO_TEXT = "no_text"  # a document without text
    NEEDS_OCR = "needs_ocr"  # pictures of text
