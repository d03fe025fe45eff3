"""Thinking that a server leaves in the text of an answer: `<think> ... </think>` before the answer itself."""

import re

from dagster_offload.lenient_json import located_objects

_OPENING = re.compile(r"\s*<(think|thinking|thought)>")
_TAG = re.compile(r"<(/?)(?:think|thinking|thought)>")


def split_thinking(text: str) -> tuple[str, str | None]:
    """What was thought, and the answer after it; the answer is None where the thinking has no end.

    An answer may speak of such tags itself: what begins with a brace or a fence is an answer from its beginning, and what
    stands within a JSON object is that object's.
    """
    thought = []
    while (opening := _OPENING.match(text)) is not None:
        inside, closing, after = text[opening.end() :].partition(f"</{opening[1]}>")
        thought.append(inside)
        if not closing:
            return "".join(thought), None
        text = after
    rest = text.strip()
    tags = [] if rest.startswith(("{", "```")) else list(_TAG.finditer(rest))
    if tags:
        objects = [place for place, _ in located_objects(rest)]
        tags = [tag for tag in tags if not any(tag.start() in place for place in objects)]
    if not tags:
        return "".join(thought), rest
    # Some templates open the thinking in the prompt, so that only its end is in the answer.
    thought.append(rest[: tags[-1].start()])
    return "".join(thought), rest[tags[-1].end() :].strip() if tags[-1][1] else None
