"""The PATH of the service: that of the shell, without what means something else there or is not safe."""

import os
from pathlib import Path

from dagster_offload.service.boot.search_path import search_path


def test_absolute_entries_are_kept_in_their_order_and_once() -> None:
    assert search_path("/opt/homebrew/bin:/usr/bin:/my programs:/usr/bin") == "/opt/homebrew/bin:/usr/bin:/my programs"


def test_entries_that_depend_on_the_working_folder_or_break_a_line_are_left_out() -> None:
    assert search_path(":.:bin:/usr/bin:~/bin:/a\nUser=root:") == "/usr/bin"


def test_the_service_of_another_user_searches_no_folder_that_others_can_change(tmp_path: Path) -> None:
    own, everybodys, theirs, missing = (tmp_path / name for name in ("own", "everybodys", "theirs", "missing"))
    for folder in (own, everybodys, theirs):
        folder.mkdir()
    everybodys.chmod(0o1777)
    entries = f"{everybodys}:{own}:{missing}"
    assert search_path(entries, [os.getuid()]) == str(own)
    assert search_path(str(theirs), [os.getuid() + 1]) == ""
    assert search_path(entries) == entries
