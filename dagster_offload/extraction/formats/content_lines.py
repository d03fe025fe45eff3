"""Read calendars (ICS, RFC 5545) and contacts (VCF, RFC 2426 and 6350): both consist of lines `NAME;parameters:value`.

Each event, task, journal entry or contact becomes a block of lines `Field: value`. Pictures, keys, time zone tables and
technical fields are left out.
"""

import contextlib
import quopri
import re
from collections.abc import Iterator
from datetime import date, timedelta

from dagster_offload.extraction.encodings.decoding import decode

# The fields that are read, in the order in which they are shown.
_FIELDS = {
    "FN": "Name",
    "N": "Name parts",
    "NICKNAME": "Nickname",
    "ORG": "Organization",
    "TITLE": "Title",
    "ROLE": "Role",
    "SUMMARY": "Summary",
    "DTSTART": "Start",
    "DTEND": "End",
    "DUE": "Due",
    "DURATION": "Duration",
    "RRULE": "Repeats",
    "RDATE": "Also on",
    "EXDATE": "Except on",
    "RECURRENCE-ID": "In place of the one on",
    "LOCATION": "Location",
    "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendee",
    "STATUS": "Status",
    "COMPLETED": "Completed",
    "CATEGORIES": "Categories",
    "TEL": "Phone",
    "EMAIL": "Mail",
    "ADR": "Address",
    "BDAY": "Birthday",
    "URL": "Web page",
    "DESCRIPTION": "Description",
    "FREEBUSY": "Busy",
    "COMMENT": "Comment",
    "NOTE": "Note",
}
_ENTRIES = {
    "VEVENT": "Event",
    "VTODO": "Task",
    "VJOURNAL": "Journal entry",
    "VFREEBUSY": "Busy times",
    "VCARD": "Contact",
}
_TIMES = {"DTSTART", "DTEND", "DUE", "COMPLETED", "BDAY", "RDATE", "EXDATE", "RECURRENCE-ID"}
_KINDS = {"HOME", "WORK", "CELL", "FAX", "MOBILE"}  # of a phone number, a mail address or an address

# Some programs save one entry without the calendar around it.
_BEGINNING = re.compile(r"\s*(?:[\w-]+\.)?BEGIN:[\w-]+\s*$", re.IGNORECASE | re.MULTILINE)
_LINE_END = re.compile(r"\r\n|\r|\n")  # the line separators of Unicode are parts of a value
_FOLD = re.compile(rb"\r?\n[ \t]")
# In vCard 2.1 a quoted-printable value continues on the next line after a `=`. The repetitions before the value are bounded,
# because a search over a long line without a colon takes quadratic time otherwise.
_SOFT_BREAK = re.compile(rb"(?im)^([^:\n]{0,500}?ENCODING=QUOTED-PRINTABLE[^:\n]{0,500}:(?:.*=\r?\n)+.*)$")
_LINE = re.compile(r'((?:[\w-]+\.)?[\w-]+)((?:;(?:"[^"]*"|[^":;])*)*):(.*)')
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T(\d\d):?(\d\d)(?::?\d\d)?(Z?))?$")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_REPLY = re.compile(r"(?i)PARTSTAT=\"?(ACCEPTED|DECLINED|TENTATIVE)\b")
_ESCAPE = re.compile(r"\\([nN,;\\:])")
_SEPARATOR = re.compile(r"(?<!\\);")


def entries_text(data: bytes, declared: str | None = None) -> str | None:
    """Return the entries of a calendar or of contacts as text, or None if `data` is neither.

    `declared`: the encoding that a mail declares for it.
    """
    if b"\0" in data and (wide := decode(data, declared)) is not None:  # UTF-16, in which no character is cut
        data, declared = wide.text.encode("utf-8", "replace"), None
    decoded = decode(_unfolded(data), declared)
    if decoded is None or not _BEGINNING.match(decoded.text):
        return None
    return "\n\n".join(_blocks(decoded.text))


def _unfolded(data: bytes) -> bytes:
    """Join the lines that belong together. They are cut between any two bytes, also of one character (RFC 5545, 3.1)."""
    return _FOLD.sub(b"", _SOFT_BREAK.sub(lambda found: re.sub(rb"=\r?\n", b"", found[1]), data))


def _blocks(text: str) -> Iterator[str]:
    entry: str | None = None
    found: dict[str, list[str]] = {}
    depth = 0  # of parts inside an entry, such as an alarm
    is_cancelled = False
    for line in _LINE_END.split(text):
        match = _LINE.match(line)
        if match is None:
            continue
        name, parameters, value = match[1].rpartition(".")[2].upper(), match[2], match[3]
        if name == "BEGIN":
            depth += entry is not None
            if entry is None and value.strip().upper() in _ENTRIES:
                entry, found = _ENTRIES[value.strip().upper()], {}
            elif value.strip().upper() == "VCALENDAR":
                is_cancelled = False
        elif name == "METHOD" and entry is None:
            is_cancelled = value.strip().upper() == "CANCEL"
        elif name == "END" and depth:
            depth -= 1
        elif name == "END" and entry is not None:
            if is_cancelled:  # not all programs say so in the entry too
                found.setdefault("STATUS", ["CANCELLED"])
            yield _block(entry, found)
            entry = None
        elif entry is not None and not depth and name in _FIELDS and (shown := _shown(name, parameters, value)):
            found.setdefault(name, []).append(shown)
    if entry is not None and found:  # the file is cut off
        yield _block(entry, found)


def _block(entry: str, found: dict[str, list[str]]) -> str:
    if "FN" in found:
        found.pop("N", None)
    if "DTSTART" in found and "DTEND" in found:
        found["DTEND"] = [_last(found["DTSTART"][0], found["DTEND"][0])]
    lines = [f"{_FIELDS[name]}: {value}" for name in _FIELDS for value in found.get(name, ())]
    return "\n".join([entry, *lines])


def _last(start: str, end: str) -> str:
    """Return when an event ends. Of one that takes whole days, the field has the day after the last (RFC 5545, 3.6.1)."""
    if _DAY.fullmatch(start) and _DAY.fullmatch(end) and start < end:
        with contextlib.suppress(ValueError, OverflowError):  # no such day
            return str(date.fromisoformat(end) - timedelta(days=1))
    return end


def _shown(name: str, parameters: str, value: str) -> str:
    names = parameters.upper()
    if "QUOTED-PRINTABLE" in names:
        charset = re.search(r"CHARSET=([\w-]+)", parameters, re.IGNORECASE)
        decoded = decode(quopri.decodestring(value.encode()), charset[1] if charset else None)
        value = decoded.text if decoded is not None else ""
    if name in _TIMES and all(times := [_time(one, parameters) for one in value.split(",")]):
        return ", ".join(times)
    if name in ("N", "ORG", "ADR"):
        value = ", ".join(part for part in _SEPARATOR.split(value) if part)
    value = _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], value).strip()
    if name in ("ATTENDEE", "ORGANIZER"):
        person = re.search(r'CN="?([^";:]+)', parameters, re.IGNORECASE)
        address = re.sub(r"(?i)^mailto:", "", value)
        value = f"{person[1]} <{address}>" if person else address
        if (reply := _REPLY.search(parameters)) is not None:
            value += f" ({reply[1].lower()})"
    kinds = sorted(kind.lower() for kind in _KINDS & set(re.split(r"[;=,]", names)))
    return f"{value} ({', '.join(kinds)})" if value and kinds else value


def _time(value: str, parameters: str) -> str:
    """Return a day, or a time with its zone; "" for other values."""
    time = _TIME.match(value)
    if time is None:
        return ""
    clock = f" {time[4]}:{time[5]}" if time[4] else ""
    zone = re.search(r'TZID="?([^";:]+)', parameters)
    where = " UTC" if time[6] else f" ({zone[1]})" if zone and clock else ""
    return f"{time[1]}-{time[2]}-{time[3]}{clock}{where}"
