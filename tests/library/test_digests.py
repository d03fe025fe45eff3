"""The file of a key, and its digest: never mixed from two contents."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from dagster_offload.errors import ChangedWhileRead
from dagster_offload.library.digests import digest, locate
from tests.support.library import only, write
from tests.support.users import as_unprivileged_user


def test_a_digest_is_the_sha256_of_the_bytes(library: Path) -> None:
    content = os.urandom(3_000_000)
    write(library, "a.txt", content)
    assert digest(only(library)) == sha256(content).hexdigest()
    write(library, "a.txt", b"")
    assert digest(only(library)) == sha256(b"").hexdigest()


@pytest.mark.rule("library-2")
def test_a_file_changed_since_its_stat_has_no_digest(library: Path) -> None:
    path = write(library, "a.txt", b"one")
    before = only(library)
    path.write_bytes(b"three")
    with pytest.raises(ChangedWhileRead, match=r"a\.txt"):
        digest(before)


def test_a_file_replaced_by_one_of_the_same_size_and_time_has_no_digest(library: Path) -> None:
    write(library, "a.txt", b"one")
    before = only(library)
    other = write(library, "other", b"two")
    os.utime(other, ns=(before.mtime_ns, before.mtime_ns))
    os.replace(other, before.location)
    with pytest.raises(ChangedWhileRead):
        digest(before)


def test_a_file_replaced_by_a_pipe_has_no_digest(library: Path) -> None:
    path = write(library, "a.txt")
    before = only(library)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ChangedWhileRead):
        digest(before)


def test_a_removed_file_raises_an_os_error(library: Path) -> None:
    path = write(library, "a.txt")
    before = only(library)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        digest(before)


@pytest.mark.parametrize(
    "key", ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "", "missing.txt", "a\0b", "없음.txt"]
)
def test_a_key_that_is_not_from_a_walk_has_no_file(library: Path, key: str) -> None:
    (library.parent / "secret.txt").write_text("secret")
    assert locate(library, key) is None


def test_a_key_longer_than_any_file_name_is_found(library: Path) -> None:
    name = "\ufb2c" * 80 + ".txt"  # the normal form of each has three characters, which is too long for a file name
    path = write(library, name)
    assert len(os.fsencode(only(library).key)) > 255
    assert locate(library, only(library).key) == path


@pytest.mark.root
@pytest.mark.parametrize("name", ["a.txt", "가.txt"])
def test_a_key_in_a_folder_without_permission_has_no_file(library: Path, name: str) -> None:
    write(library, f"closed/{name}").parent.chmod(0o700)
    ran = as_unprivileged_user(
        "from dagster_offload.library.digests import locate",
        "print(locate(Path(sys.argv[1]), sys.argv[2]))",
        library,
        f"closed/{name}",
    )
    assert ran.stdout == "None\n", ran.stderr
