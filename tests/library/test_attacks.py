"""A walk is safe against links, mounts, special files and extreme numbers, from an attacker or by accident."""

import os
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5, sha256
from pathlib import Path
from typing import cast

import pytest

from dagster_offload.library.digests import digest, locate, md5_of_unchanged
from dagster_offload.library.files import SeenFile, seen_as
from dagster_offload.library.left_out import Kind
from dagster_offload.library.seen import SeenFiles
from dagster_offload.library.walk import WalkRules, walk
from tests.support.library import keys, only, write

# Attacks by a user who may write into the library


def test_a_folder_replaced_by_a_link_between_walk_and_digest_is_not_followed(library: Path) -> None:
    write(library, "letters/a.txt", b"letter")
    write(library.parent, "secrets/a.txt", b"secret")
    before = only(library)
    os.utime(library.parent / "secrets/a.txt", ns=(before.mtime_ns, before.mtime_ns))
    (library / "letters").rename(library.parent / "aside")
    (library / "letters").symlink_to(library.parent / "secrets")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        digest(before)
    assert locate(library, "letters/a.txt") is None


def test_a_file_replaced_by_a_link_between_walk_and_digest_is_not_followed(library: Path) -> None:
    path = write(library, "a.txt", b"letter")
    before = only(library)
    path.unlink()
    path.symlink_to(write(library.parent, "secret.txt", b"secret"))
    with pytest.raises(OSError, match="leads out of the library"):
        digest(before)
    assert locate(library, "a.txt") is None


def test_a_checksum_for_a_sink_is_of_the_documents_file_only(library: Path) -> None:
    """Paperless-ngx finds older documents by MD5, so the file is read once more, long after the walk."""
    letter, hashed = write(library, "letters/a.txt", b"letter"), sha256(b"letter").hexdigest()
    assert md5_of_unchanged(library, "letters/a.txt", hashed) == md5(b"letter", usedforsecurity=False).hexdigest()
    letter.write_bytes(b"letter, changed")
    assert md5_of_unchanged(library, "letters/a.txt", hashed) is None
    letter.unlink()
    os.mkfifo(letter)
    assert md5_of_unchanged(library, "letters/a.txt", hashed) is None, "a pipe was read"
    letter.unlink()
    # Outside the library, even the same bytes are not read.
    letter.symlink_to(write(library.parent, "elsewhere/a.txt", b"letter"))
    assert md5_of_unchanged(library, "letters/a.txt", hashed) is None
    letter.unlink()
    letter.parent.rmdir()
    letter.parent.symlink_to(library.parent / "elsewhere")
    assert md5_of_unchanged(library, "letters/a.txt", hashed) is None


def test_a_folder_replaced_by_a_link_during_the_walk_is_not_listed(library: Path) -> None:
    for name in ("a/one.txt", "b/two.txt"):
        write(library, name)
    write(library.parent, "secrets/secret.txt")

    class Swapping(SeenFiles):
        """Replaces the other folder by a link, after the walk has listed it, when the first file is looked up."""

        def find(self, file: SeenFile) -> bool:
            other = library / ("b" if file[0].startswith("a/") else "a")
            if not other.is_symlink() and not (library.parent / "aside").exists():
                other.rename(library.parent / "aside")
                other.symlink_to(library.parent / "secrets")
            return super().find(file)

    found = walk(library, Swapping([("unknown", 0, 0, 0, 0)]))
    assert len(found.files) == 1
    assert "secret" not in str(found)


@pytest.mark.rule("library-5")
def test_a_link_through_a_linked_folder_is_not_a_document(library: Path) -> None:
    write(library.parent, "secrets/secret.txt")
    (library / "folder").symlink_to(library.parent / "secrets")
    (library / "a.txt").symlink_to("folder/secret.txt")
    (library / "b.txt").symlink_to(library / "folder" / "secret.txt")
    found = walk(library)
    assert (len(found.files), {left.kind for left in found.left_out.values()}) == (0, {Kind.LINK})
    assert sorted(found.left_out) == ["a.txt", "b.txt", "folder"]


def test_a_link_with_an_absolute_target_inside_the_library_is_a_document(library: Path) -> None:
    (library / "a.txt").symlink_to(write(library, ".store/x", b"annexed"))
    (library / "chain.txt").symlink_to("a.txt")
    assert keys(library) == ["a.txt", "chain.txt"]
    assert digest(list(walk(library).files)[1]) == sha256(b"annexed").hexdigest()


def test_a_socket_is_not_a_document(library: Path) -> None:
    # A socket's path is limited to about 100 bytes, and the path of pytest's folder may be longer.
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(library)
        try:
            listener.bind("socket.txt")
        finally:
            os.chdir(here)
    assert (library / "socket.txt").is_socket()
    assert keys(library) == []


def test_folders_deeper_than_any_path_do_not_end_the_walk(library: Path) -> None:
    write(library, "a.txt")
    handle = os.open(library, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("deep", dir_fd=handle)
            below = os.open("deep", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below
    finally:
        os.close(handle)
    try:
        found = walk(library)
        assert [file.key for file in found.files] == ["a.txt"]
        (left,) = found.unusable
        assert "long" in left.reason
    finally:
        subprocess.run(["rm", "-rf", str(library / "deep")], check=True)  # shutil recurses too deep for Python


# Folders that do not belong to the library


def test_a_home_inside_the_library_is_left_out_and_reported(library: Path) -> None:
    write(library, "a.txt")
    write(library, "offload/logs/up.txt")
    found = walk(library, rules=WalkRules(home=library / "offload"))
    assert [file.key for file in found.files] == ["a.txt"]
    assert list(found.left_out) == ["offload/"]
    assert "OFFLOAD_HOME" in found.left_out["offload/"].reason


def test_a_home_behind_a_link_is_also_left_out(library: Path, tmp_path: Path) -> None:
    write(library, "offload/log.txt")
    (tmp_path / "home").symlink_to(library / "offload")
    assert len(walk(library, rules=WalkRules(home=tmp_path / "home")).files) == 0


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    if os.geteuid() != 0 or subprocess.run(["mount", *arguments, str(place)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.rule("library-5")
def test_a_mount_below_the_library_is_left_out_unless_a_setting_includes_it(library: Path) -> None:
    write(library, "a.txt")
    with mounted(library / "disk", "-t", "tmpfs", "tmpfs"):
        write(library, "disk/b.txt")
        found = walk(library)
        assert [file.key for file in found.files] == ["a.txt"]
        assert list(found.left_out) == ["disk/"]
        assert "OFFLOAD_LIBRARY_CROSS_MOUNTS" in found.left_out["disk/"].advice
        crossed = walk(library, rules=WalkRules(cross_mounts=True))
        assert ([file.key for file in crossed.files], crossed.left_out) == (["a.txt", "disk/b.txt"], {})
        assert walk(library / "disk").count == 1  # as a library of its own


def test_a_mounted_single_file_is_left_out(library: Path, tmp_path: Path) -> None:
    write(library, "a.txt")
    with mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs"):
        (tmp_path / "disk" / "b.txt").write_text("other")
        subprocess.run(["mount", "--bind", str(tmp_path / "disk/b.txt"), str(library / "a.txt")], check=True)
        try:
            for known in (
                [],
                [file.seen for file in walk(library, rules=WalkRules(cross_mounts=True)).files],
            ):
                found = walk(library, SeenFiles(known))
                assert (found.count, list(found.left_out)) == (0, ["a.txt"])
        finally:
            subprocess.run(["umount", "-l", str(library / "a.txt")], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_proc_is_never_read_even_if_mounts_are_included(library: Path) -> None:
    with mounted(library / "system", "-t", "proc", "proc"):
        found = walk(library, rules=WalkRules(cross_mounts=True))
    assert list(found.files) == []
    (left,) = found.left_out.values()
    assert "running system" in left.reason


# Numbers


@pytest.mark.parametrize("seconds", [13_569_465_600, 9_300_000_000, -9_300_000_000])
def test_a_time_beyond_64_bits_of_nanoseconds_is_clamped(library: Path, seconds: int) -> None:
    path = write(library, "a.txt")
    os.utime(path, (seconds, seconds))
    if path.stat().st_mtime != seconds:
        pytest.skip("this file system stores no such time")
    file = only(library)
    assert -(2**63) <= file.mtime_ns < 2**63
    assert digest(file)
    assert walk(library, SeenFiles([file.seen])).unchanged == 1


def test_every_number_of_a_stat_fits_a_bigint() -> None:
    huge = types.SimpleNamespace(st_size=2**63 - 1, st_mtime_ns=2**80, st_ctime_ns=-(2**80), st_ino=2**64 - 1)
    _, *numbers = seen_as("a.txt", cast(os.stat_result, huge))
    assert all(-(2**63) <= number < 2**63 for number in numbers)
