"""Walking a library: which files are documents, which names are refused, and what is listed as unchanged."""

import errno
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import LibraryMissing
from dagster_offload.library.digests import digest, locate
from dagster_offload.library.files import MAX_KEY_BYTES, SeenFile, extension, printable
from dagster_offload.library.left_out import Kind
from dagster_offload.library.seen import SeenFiles
from dagster_offload.library.walk import walk
from tests.support.library import keys, only, write
from tests.support.users import as_unprivileged_user


def test_keys_are_relative_posix_paths_in_order(library: Path) -> None:
    names = ["b.txt", "a.txt", "sub/deep/c.md", "계약/임대차 계약서.docx", 'odd & "quoted" #1 100%.txt']
    for name in names:
        write(library, name)
    assert keys(library) == sorted(names)


def test_a_key_is_nfc_and_its_file_is_found_by_the_name_on_disk(library: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "회의/회의록.txt")
    path = write(library, decomposed, b"minutes")
    file = only(library)
    assert file.key == "회의/회의록.txt"
    assert file.path.read_bytes() == b"minutes"
    found = locate(library, file.key)
    assert found is not None
    assert found.samefile(path)


def test_two_names_with_one_normal_form_give_one_document(library: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "보고서.txt") for form in ("NFC", "NFD"))
    write(library, composed, b"composed")
    write(library, decomposed, b"decomposed")
    found = walk(library)
    (file,) = found.files
    assert file.key == composed
    assert file.path.read_bytes() == b"composed"
    assert locate(library, file.key) == file.path
    (unusable,) = found.unusable
    assert unusable.name == decomposed
    assert "normalization" in unusable.reason


def test_walk_and_locate_choose_the_same_of_two_names_with_one_normal_form(library: Path) -> None:
    # Two marks on one letter, in both orders. Neither spelling is the normal form.
    names = ["a\u0323\u0302.txt", "a\u0302\u0323.txt"]
    for name in names:
        write(library, name, name.encode())
    found = walk(library)
    (file,) = found.files
    assert file.key not in names
    assert locate(library, file.key) == file.path
    assert len(found.unusable) == 1


def test_two_folders_with_one_normal_form_share_their_documents(library: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "계약") for form in ("NFC", "NFD"))
    write(library, f"{composed}/a.txt")
    other = write(library, f"{decomposed}/b.txt")
    assert keys(library) == [f"{composed}/a.txt", f"{composed}/b.txt"]
    found = locate(library, f"{composed}/b.txt")
    assert found is not None
    assert found.samefile(other)


def test_files_of_one_key_in_two_spellings_of_a_folder_give_one_document(library: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "계약/2024") for form in ("NFC", "NFD"))
    chosen = write(library, f"{composed}/a.txt", b"composed")
    write(library, f"{decomposed}/a.txt", b"decomposed")
    write(library, f"{composed}/b.txt")
    for seen in (SeenFiles(), SeenFiles(states(library).values())):
        found = walk(library, seen)
        assert (found.count, [name.name for name in found.unusable]) == (2, [f"{decomposed}/a.txt"])
    located = locate(library, f"{composed}/a.txt")
    assert located is not None
    assert located.samefile(chosen)


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        (b"broken-\xb0\xed.txt", "broken-\\xb0\\xed.txt", "not UTF-8"),
        ("two\nlines.txt", "two\\nlines.txt", "control character"),
        ("bell\a.txt", "bell\\x07.txt", "control character"),
        ("line\u2028separator.txt", "line\\u2028separator.txt", "control character"),
        ("from a...to b.txt", "from a...to b.txt", "range of partitions"),
        ("folder\twith tab/fine.txt", "folder\\twith tab/fine.txt", "control character"),
    ],
)
def test_a_file_whose_name_cannot_be_a_key_is_reported_and_not_a_document(
    library: Path, name: str | bytes, shown: str, reason: str
) -> None:
    write(library, name)
    write(library, "fine.txt")
    found = walk(library)
    assert [file.key for file in found.files] == ["fine.txt"]
    (unusable,) = found.unusable
    assert unusable.name == shown
    assert reason in unusable.reason


def test_a_key_too_long_for_an_index_is_refused_and_shown_shortened(library: Path) -> None:
    for last in "ab":
        write(library, "/".join(["깊은폴더" * 5] * 40 + [f"{last}.txt"]))
    found = walk(library)
    assert list(found.files) == []
    assert len({name.name for name in found.unusable}) == 2
    for name in found.unusable:
        assert str(MAX_KEY_BYTES) in name.reason
        assert len(name.name) <= 700


def test_escaped_names_of_different_files_differ() -> None:
    assert printable("a\nb") != printable("a\\nb")


def test_hidden_temporary_and_system_files_are_left_out(library: Path) -> None:
    for name in (
        ".DS_Store",
        ".hidden.txt",
        ".git/HEAD",
        ".git/notes.txt",
        "~$report.docx",
        "draft.txt~",
        "save.tmp",
        "film.pdf.part",
        "__MACOSX/a.txt",
        "@eaDir/a.txt",
    ):
        write(library, name)
    found = walk(library)
    assert list(found.files) == []
    assert {name: left.kind for name, left in found.left_out.items()} == {
        ".DS_Store": Kind.HIDDEN,
        ".hidden.txt": Kind.HIDDEN,
        ".git/": Kind.HIDDEN,
        "~$report.docx": Kind.TEMPORARY,
        "draft.txt~": Kind.TEMPORARY,
        "save.tmp": Kind.TEMPORARY,
        "film.pdf.part": Kind.TEMPORARY,
        "__MACOSX/": Kind.SYSTEM,
        "@eaDir/": Kind.SYSTEM,
    }


def test_files_of_other_types_are_left_out_with_their_type(library: Path) -> None:
    for name in ("film.mp4", "Film.MP4", "all.zip", "setup.exe", "README", "report.2024", "보고서.최종", "PAGE.PDF"):
        write(library, name)
    found = walk(library)
    assert {file.key for file in found.files} == {"README", "report.2024", "보고서.최종", "PAGE.PDF"}
    assert {name: left.reason for name, left in found.left_out.items()} == {
        "film.mp4": "type .mp4 is not read",
        "Film.MP4": "type .mp4 is not read",
        "all.zip": "type .zip is not read",
        "setup.exe": "type .exe is not read",
    }


def test_an_extension_is_short_ascii_with_a_letter() -> None:
    assert [extension(name) for name in ("a.TXT", "a.tar.gz", "a", ".txt", "a.2024", "a.최종", "a.")] == (
        ["txt", "gz", "", "", "", "", ""]
    )


def test_links_are_followed_only_to_regular_files_inside_the_library(library: Path, tmp_path: Path) -> None:
    write(library, ".store/annexed", b"annexed")
    (library / "inside.txt").symlink_to(".store/annexed")
    (tmp_path / "secret.txt").write_text("secret")
    (library / "outside.txt").symlink_to(tmp_path / "secret.txt")
    (library / "nowhere.txt").symlink_to("missing.txt")
    (library / "loop.txt").symlink_to("loop.txt")
    (library / "again").symlink_to(library, target_is_directory=True)
    found = walk(library)
    assert [file.key for file in found.files] == ["inside.txt"]
    assert {name for name, left in found.left_out.items() if left.kind is Kind.LINK} == {
        "outside.txt",
        "nowhere.txt",
        "loop.txt",
        "again",
    }
    assert digest(next(iter(found.files))) == sha256(b"annexed").hexdigest()


def test_a_library_behind_a_link_is_walked(library: Path, tmp_path: Path) -> None:
    write(library, "a.txt")
    (library / "b.txt").symlink_to("a.txt")
    (tmp_path / "link").symlink_to(library, target_is_directory=True)
    assert keys(tmp_path / "link") == ["a.txt", "b.txt"]


def test_a_pipe_is_not_a_document_and_does_not_block(library: Path) -> None:
    os.mkfifo(library / "pipe.txt")
    assert keys(library) == []


def test_a_library_that_does_not_exist_is_reported_as_missing(library: Path) -> None:
    with pytest.raises(LibraryMissing, match="no such file"):
        walk(library / "gone")
    with pytest.raises(LibraryMissing, match="not a directory"):
        walk(write(library, "file.txt"))


@pytest.mark.root
def test_unreadable_files_and_folders_do_not_count_as_gone(library: Path) -> None:
    write(library, "open/a.txt")
    write(library, "closed/b.txt").parent.chmod(0o700)
    write(library, "listed/c.txt").parent.chmod(0o744)  # its names can be listed, its files cannot be read
    write(library, "locked.txt").chmod(0o600)
    ran = as_unprivileged_user(
        "from dagster_offload.library.digests import digest\nfrom dagster_offload.library.walk import walk",
        "found = walk(Path(sys.argv[1]))\n"
        "print([file.key for file in found.files], sorted((f.key, f.reason) for f in found.unreadable))\n"
        "try:\n"
        "    digest(next(file for file in found.files if file.key == 'locked.txt'))\n"
        "except PermissionError as error:\n"
        "    print(error.strerror)\n",
        library,
    )
    assert ran.stdout.splitlines() == [
        "['locked.txt', 'open/a.txt'] [('closed/', 'permission denied'), ('listed/', 'permission denied')]",
        "Permission denied",
    ], ran.stderr


def test_an_entry_without_a_state_hides_nothing_else(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a damaged file system: `ls: cannot access 'broken.pdf': Input/output error`."""
    for key in ("a.txt", "broken.pdf", "deep/broken.pdf", "deep/z.txt", "deep/below/c.txt", "z.txt"):
        write(library, key)
    real = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self._entry = entry.name, entry

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            if self.name == "broken.pdf":
                raise OSError(errno.EIO, "Input/output error")
            return self._entry.stat(follow_symlinks=follow_symlinks)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._entry, name)

    @contextmanager
    def damaged(folder: int) -> Iterator[Iterator[Entry]]:
        with real(folder) as entries:
            yield map(Entry, entries)

    monkeypatch.setattr(os, "scandir", damaged)
    found = walk(library)
    assert sorted(file.key for file in found.files) == ["a.txt", "deep/below/c.txt", "deep/z.txt", "z.txt"]
    assert sorted((each.key, each.reason) for each in found.unreadable) == [
        ("broken.pdf", "input/output error"),
        ("deep/broken.pdf", "input/output error"),
    ]


def states(library: Path) -> dict[str, SeenFile]:
    return {file.key: file.seen for file in walk(library).files}


def test_unchanged_documents_are_only_counted(library: Path) -> None:
    write(library, "a/same.txt")
    write(library, unicodedata.normalize("NFD", "a/같은.txt"))
    write(library, "touched.txt")
    write(library, "replaced.txt")
    (library / "link.txt").symlink_to("a/same.txt")
    before = states(library)
    assert before.keys() == {"a/same.txt", "a/같은.txt", "touched.txt", "replaced.txt", "link.txt"}
    os.utime(library / "touched.txt", ns=(1, 1))
    os.replace(write(library, "new"), library / "replaced.txt")
    write(library, "added.txt")
    seen = SeenFiles(before.values())
    found = walk(library, seen)
    assert [file.key for file in found.files] == ["added.txt", "replaced.txt", "touched.txt"]
    assert (found.unchanged, found.count) == (3, 6)
    assert sorted(seen.not_found(before.values())) == ["replaced.txt", "touched.txt"]


def test_a_link_in_place_of_a_file_does_not_count_as_unchanged(library: Path) -> None:
    write(library, "a.txt")
    before = states(library)
    (library / "a.txt").rename(library / "b.txt")
    (library / "a.txt").symlink_to("../outside.txt")
    write(library.parent, "outside.txt")
    found = walk(library, SeenFiles(before.values()))
    assert ([file.key for file in found.files], found.unchanged) == (["b.txt"], 0)
    assert found.left_out["a.txt"].kind is Kind.LINK


def test_a_file_removed_during_the_walk_does_not_hide_the_others(library: Path) -> None:
    for name in "abc":
        write(library, f"{name}.txt")

    class Going(SeenFiles):
        """Removes another file when the first one is looked up: the walk has listed both."""

        def find(self, file: SeenFile) -> bool:
            others = sorted(path for path in library.iterdir() if path.name != file[0])
            if len(others) == 2:
                others[0].unlink()
            return super().find(file)

    found = walk(library, Going(states(library).values()))
    assert (found.unchanged, len(found.files)) == (2, 0)
