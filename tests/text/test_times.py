from datetime import datetime, timedelta

from dagster_offload.text.times import shown_moment


def test_a_moment_of_another_day_is_shown_with_its_date() -> None:
    a_week_ago = (datetime.now() - timedelta(days=7)).astimezone()  # the clocks may have changed since
    assert shown_moment(a_week_ago) == f"{a_week_ago:%a %d %b %H:%M}"


def test_a_moment_of_today_is_shown_without_its_date() -> None:
    while True:
        now = datetime.now().astimezone()
        shown = shown_moment(now)
        if datetime.now().date() == now.date():
            break
    assert shown == f"{now:%H:%M}"
