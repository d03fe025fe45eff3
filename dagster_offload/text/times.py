"""Moments as people read them, in this machine's time zone."""

from datetime import datetime

DAY_AND_TIME = "%a %d %b %H:%M"


def shown_moment(moment: datetime) -> str:
    """`14:02`, or `Wed 25 Nov 14:02` if it is not today."""
    here = moment.astimezone()
    is_today = here.date() == datetime.now().astimezone().date()
    return f"{here:{'%H:%M' if is_today else DAY_AND_TIME}}"
