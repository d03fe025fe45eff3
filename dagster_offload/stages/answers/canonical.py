"""Canonical fields: the model is offered the values that other documents have, so that one sender has one name. Pure.

The offer stands after the instruction, so the document before it stays in the server's prompt cache. It is not part of the
recipe: a new value makes no answer outdated.
"""

import json
from collections.abc import Mapping, Sequence

from dagster_offload.stages.prompts.control_tokens import escape_control_tokens
from dagster_offload.text.tokens import estimated_tokens

MOST_VALUES = 100  # of a field
LONGEST_VALUE = 100  # characters
MOST_TOKENS = 800  # of all values together; they take room from the document


def offer(values: Mapping[str, Sequence[str]]) -> str:
    """The words that offer these values, by field, the newest first. Empty if there are none."""
    left, lines = MOST_TOKENS, []
    for field, known in values.items():
        shown: list[str] = []
        for value in known[:MOST_VALUES]:
            # Values come from documents: they must not be able to end the message.
            plain = escape_control_tokens(" ".join(value.split()))
            left -= estimated_tokens(plain) + 1
            if left < 0:
                break
            shown.append(plain)
        if shown:
            lines.append(f'Values of "{field}" in other documents: {json.dumps(shown, ensure_ascii=False)}')
    if not lines:
        return ""
    rule = "If the document means one of these, write it exactly so. Otherwise write what the document states."
    return "\n".join(["", *lines, rule])
