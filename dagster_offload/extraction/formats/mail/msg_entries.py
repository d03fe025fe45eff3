"""Read what Outlook shows above the text of an appointment, a task or a contact. Their texts seldom repeat it.

Format specifications: [MS-OXOCAL], [MS-OXOTASK], [MS-OXOCNTC].
"""

from collections.abc import Iterator
from datetime import timedelta

from dagster_offload.extraction.formats.mail.msg_storage import Storage, moment
from dagster_offload.extraction.formats.mail.msg_zone import local_time

_APPOINTMENT = "00062002-0000-0000-c000-000000000046"
_TASK = "00062003-0000-0000-c000-000000000046"
_ADDRESS = "00062004-0000-0000-c000-000000000046"
_START, _END, _IS_WHOLE_DAYS, _ZONE = 0x820D, 0x820E, 0x8215, 0x825E
_APPOINTMENT_TEXTS = {0x8208: "Location", 0x8232: "Repeats", 0x8234: "Time zone"}
_TASK_DAYS = {0x8104: "Start", 0x8105: "Due", 0x810F: "Completed"}
_CONTACT_TEXTS = {
    0x3A16: "Organization",
    0x3A17: "Title",
    0x3A08: "Phone (work)",
    0x3A1C: "Phone (mobile)",
    0x3A09: "Phone (home)",
    0x3A24: "Fax",
}
_CONTACT_NAMED_TEXTS = {0x8083: "Mail", 0x801B: "Address (work)", 0x801A: "Address (home)"}
_NEVER = 0x0CB34557_A3DD4000  # 4501-01-01, of a task without this day


def entry_lines(kind: str, message: Storage) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the fields. `kind` is the class of the message."""
    kind = kind.upper()
    if kind.startswith(("IPM.APPOINTMENT", "IPM.SCHEDULE.MEETING")):
        yield from _times(message)
        yield from _texts(message, _APPOINTMENT, _APPOINTMENT_TEXTS)
    elif kind.startswith("IPM.TASK"):
        for identity, name in _TASK_DAYS.items():
            if ticks := _ticks(message, _TASK, identity):
                yield name, f"{moment(ticks):%Y-%m-%d}"
    elif kind.startswith("IPM.CONTACT"):
        yield from ((name, message.text(number)) for number, name in _CONTACT_TEXTS.items())
        yield from _texts(message, _ADDRESS, _CONTACT_NAMED_TEXTS)


def _times(message: Storage) -> Iterator[tuple[str, str]]:
    """Yield when it begins and ends, by the clocks of its author if their time zone is known."""
    is_whole_days = bool(_fixed(message, _APPOINTMENT, _IS_WHOLE_DAYS) & 1)
    number = message.named(_APPOINTMENT, _ZONE)
    zone = (message.binary(number) if number is not None else None) or b""
    for name, identity in (("Start", _START), ("End", _END)):
        ticks = _ticks(message, _APPOINTMENT, identity)
        if not ticks:
            continue
        time = local_time(moment(ticks), zone) or moment(ticks)
        if is_whole_days:  # from midnight to midnight, which half a day makes the day, also if the zone is not known
            yield name, f"{time + timedelta(hours=12 if identity == _START else -12):%Y-%m-%d}"
        else:
            yield name, f"{time:%Y-%m-%d %H:%M} {time.tzinfo}"


def _ticks(message: Storage, group: str, identity: int) -> int:
    """Return a time, 0 if there is none."""
    ticks = _fixed(message, group, identity)
    return ticks if ticks < _NEVER else 0


def _fixed(message: Storage, group: str, identity: int) -> int:
    number = message.named(group, identity)
    return 0 if number is None else message.fixed(number) or 0


def _texts(message: Storage, group: str, names: dict[int, str]) -> Iterator[tuple[str, str]]:
    for identity, name in names.items():
        number = message.named(group, identity)
        if number is not None:
            yield name, message.text(number)
