"""Open a message of Apple Mail (EMLX): a line with the length of the mail in bytes, the mail, and a property list."""

import re

_LENGTH = re.compile(rb"\s*(\d{1,10})\s*\r?\n")


def mail_in(data: bytes) -> bytes | None:
    """Return the mail inside an EMLX file, or None if `data` is none. A file that is cut off gives what is there."""
    head = _LENGTH.match(data)
    return None if head is None else data[head.end() : head.end() + int(head[1])]
