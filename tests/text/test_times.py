from datetime import datetime, timedelta

from dagster_offload.text.times import shown_moment


def test_a_moment_of_another_day_is_shown_with_its_date() -> None:
    now = datetime.now().astimezone()
    assert shown_moment(now) == f"{now:%H:%M}"
    assert shown_moment(now - timedelta(days=7)) == f"{now - timedelta(days=7):%a %d %b %H:%M}"
