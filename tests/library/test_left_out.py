"""Which files are not documents: by their name, by their bytes, and by patterns. Each has a reason and advice."""

import subprocess
import types
from pathlib import Path
from typing import cast

import pytest

from dagster_offload.errors import ScanRefused
from dagster_offload.library.files import DOCUMENT_TYPES
from dagster_offload.library.ignore import MAX_IGNORE_BYTES
from dagster_offload.library.left_out import (
    Kind,
    describe_count,
    is_plain,
    is_program,
    why_file_left_out,
    why_type_left_out,
)
from dagster_offload.library.placeholders import downloaded_path, is_dataless, is_not_downloaded
from dagster_offload.library.seen import SeenFiles
from dagster_offload.library.walk import WalkRules, walk, why_left_out
from tests.support.library import keys, write

ELF = b"\x7fELF\2\1\1" + bytes(57)
WINDOWS_PROGRAM = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0"
MACH_O = bytes.fromhex("cffaedfe07000001")


def kinds(library: Path) -> dict[str, Kind]:
    return {name: left.kind for name, left in walk(library).left_out.items()}


# By name


@pytest.mark.rule("library-8")
@pytest.mark.parametrize(
    ("name", "left", "kind"),
    [
        ("desktop.ini", "desktop.ini", Kind.SYSTEM),
        ("photos/Thumbs.db", "photos/Thumbs.db", Kind.SYSTEM),
        ("Icon\r", "Icon\r", Kind.SYSTEM),
        ("#letter.txt#", "#letter.txt#", Kind.TEMPORARY),
        (".~lock.letter.odt#", ".~lock.letter.odt#", Kind.HIDDEN),
        ("site/package-lock.json", "site/package-lock.json", Kind.GENERATED),
        ("site/pnpm-lock.yaml", "site/pnpm-lock.yaml", Kind.GENERATED),
        ("jquery-3.7.1.min.js", "jquery-3.7.1.min.js", Kind.GENERATED),
        ("site/node_modules/left-pad/README.md", "site/node_modules/", Kind.TOOLS),
        ("tool.egg-info/SOURCES.txt", "tool.egg-info/", Kind.TOOLS),
        ("Notes.app/Contents/Resources/a.txt", "Notes.app/", Kind.PACKAGE),
        ("Report.pages/Index.xml", "Report.pages/", Kind.PACKAGE),
        ("Letter.RTFD/TXT.rtf", "Letter.RTFD/", Kind.PACKAGE),
        ("Fotos.photoslibrary/a/1.jpg", "Fotos.photoslibrary/", Kind.PACKAGE),
    ],
)
def test_what_systems_and_tools_write_is_left_out_as_one_thing(library: Path, name: str, left: str, kind: Kind) -> None:
    write(library, name)
    write(library, "letter.txt")
    assert keys(library) == ["letter.txt"]
    assert kinds(library) == {left: kind}


@pytest.mark.parametrize("kind", sorted(DOCUMENT_TYPES))
def test_a_plain_name_is_one_that_no_rule_leaves_out(kind: str) -> None:
    stems = (
        "a",
        "a.min",
        "a-min",
        "a_pb2",
        "a_pb2_grpc",
        "a.pb",
        "package-lock",
        "thumbs",
        "desktop",
        ".a",
        "~$a",
        "~WRL",
    )
    ends = ("", "~", ".tmp", ".part", ".icloud", "#", "\r", ".mp4")
    names = [f"{mark}{stem}.{kind}{end}" for mark in ("", "#") for stem in stems for end in ends]
    for name in (*names, kind, kind.upper(), f"composer.{kind}", f"pnpm-lock.{kind}"):
        if is_plain(name):
            assert (why_file_left_out(name), why_type_left_out(name), downloaded_path(name)) == (None, None, None)


def test_most_documents_have_a_plain_name() -> None:
    assert all(map(is_plain, ("letter.pdf", "보고서.docx", "notes.md", "a b.txt", "a.2024.csv")))


def test_names_that_only_look_alike_are_documents(library: Path) -> None:
    names = ["#1 letter.txt", "app/a.txt", "key/b.txt", "desktop.txt", "minutes.js", "package.json", "2024.05/c.txt"]
    for name in names:
        write(library, name)
    assert keys(library) == sorted(names)


def test_a_virtual_environment_is_left_out_whatever_its_name(library: Path) -> None:
    write(library, "project/tools/pyvenv.cfg")
    write(library, "project/tools/lib/python3.11/LICENSE.txt")
    write(library, "project/plan.txt")
    assert keys(library) == ["project/plan.txt"]
    left = walk(library).left_out["project/tools/"]
    assert (left.kind, "virtual environment" in left.reason) == (Kind.TOOLS, True)


def test_a_library_that_is_itself_a_virtual_environment_is_read(library: Path) -> None:
    write(library, "pyvenv.cfg")
    write(library, "letter.txt")
    assert keys(library) == ["letter.txt"]


# By bytes


@pytest.mark.rule("library-8")
@pytest.mark.parametrize("content", [ELF, WINDOWS_PROGRAM, MACH_O, b"\0asm\1\0\0\0"])
@pytest.mark.parametrize("name", ["tool", "report.pdf", "notes.txt"])
def test_a_program_is_no_document_whatever_its_name(library: Path, name: str, content: bytes) -> None:
    write(library, name, content)
    assert keys(library) == []
    assert kinds(library) == {name: Kind.EXECUTABLE}


def test_a_program_behind_a_link_is_no_document(library: Path) -> None:
    write(library, ".store/x", ELF)
    (library / "tool").symlink_to(".store/x")
    assert keys(library) == []


def test_text_that_begins_like_a_program_is_a_document() -> None:
    assert not is_program(b"MZ is the abbreviation of Mark Zbikowski.")
    assert not is_program(b"ELF, a short story")
    assert not is_program(b"")


# By patterns


@pytest.fixture
def papers(library: Path) -> Path:
    for name in ("a.txt", "archive/b.txt", "letters/archive/c.txt", "letters/d.md", "letters/secret.md"):
        write(library, name)
    return library


@pytest.mark.rule("library-8")
def test_a_file_with_patterns_applies_to_its_folder_and_below(papers: Path) -> None:
    write(papers, "letters/.offloadignore", "# private\n\narchive/\nsecret.*\n".encode("utf-8-sig"))
    assert keys(papers) == ["a.txt", "archive/b.txt", "letters/d.md"]
    left = walk(papers).left_out["letters/archive/"]
    assert left.kind is Kind.IGNORED
    assert left.reason == "the pattern archive/ in letters/.offloadignore matches it"


@pytest.mark.rule("library-8")
def test_the_settings_decide_before_files_and_deeper_files_before_others(papers: Path) -> None:
    write(papers, ".offloadignore", b"*.md\n")
    write(papers, "letters/.offloadignore", b"!*.md\n!archive/\n")
    assert keys(papers) == ["a.txt", "archive/b.txt", "letters/archive/c.txt", "letters/d.md", "letters/secret.md"]
    found = walk(papers, rules=WalkRules(ignore=("archive/", "secret.md")))
    assert [file.key for file in found.files] == ["a.txt", "letters/d.md"]
    assert found.left_out["archive/"].reason == "the pattern archive/ in OFFLOAD_IGNORE matches it"


def test_only_files_that_match_the_included_patterns_are_read(papers: Path) -> None:
    found = walk(papers, rules=WalkRules(include=("letters/", "!secret.md")))
    assert [file.key for file in found.files] == ["letters/archive/c.txt", "letters/d.md"]
    assert found.left_out["a.txt"].kind is Kind.NOT_INCLUDED
    assert "OFFLOAD_INCLUDE" in found.left_out["letters/secret.md"].advice


def test_a_pattern_that_names_a_file_overrides_the_built_in_rules(library: Path) -> None:
    for name in ("package-lock.json", "node_modules/a.txt", "tools/pyvenv.cfg", "tools/b.txt", ".notes.md", "all.zip"):
        write(library, name)
    write(library, ".offloadignore", b"!package-lock.json\n!node_modules/\n!tools/\n!.notes.md\n!all.zip\n")
    assert keys(library) == [".notes.md", "node_modules/a.txt", "package-lock.json", "tools/b.txt"]
    assert kinds(library)["all.zip"] is Kind.TYPE  # no pattern makes it readable


def test_a_pattern_with_wildcards_does_not_override_the_built_in_rules(library: Path) -> None:
    for name in ("a.txt", "b.md", "sub/c.txt", "node_modules/d.txt", ".hidden.txt"):
        write(library, name)
    write(library, ".offloadignore", b"*\n!*/\n!*.txt\n")  # only texts
    assert keys(library) == ["a.txt", "sub/c.txt"]


@pytest.mark.parametrize(
    ("patterns", "read"),
    [
        ("private/\n!docs/", ["docs/a.txt"]),  # the second line is about docs/ itself, not about what is in it
        ("a.txt\n!docs/", ["docs/private/b.txt"]),
        ("docs/*\n!docs/private/", ["docs/private/b.txt"]),
        ("/private/", ["docs/a.txt", "docs/private/b.txt"]),
        ("docs/**/b.txt", ["docs/a.txt"]),
        ("docs/\n!docs/a.txt", []),  # what is in a folder that is left out cannot be read
    ],
)
def test_patterns_decide_as_git_does(library: Path, patterns: str, read: list[str]) -> None:
    for name in ("docs/a.txt", "docs/private/b.txt"):
        write(library, name)
    write(library, ".offloadignore", patterns.encode())
    assert keys(library) == read
    subprocess.run(["git", "init", "-q", str(library)], check=True)
    (library / ".gitignore").write_text(patterns)
    listed = ["git", "-C", str(library), "ls-files", "--others", "--exclude-standard", "docs"]
    assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split() == read


def test_patterns_match_names_in_both_unicode_forms(library: Path) -> None:
    write(library, "회의/회의록.txt")
    write(library, ".offloadignore", "회의/\n".encode())
    assert keys(library) == []


def test_a_document_that_a_pattern_leaves_out_is_left_out_though_it_is_unchanged(papers: Path) -> None:
    before = [file.seen for file in walk(papers).files]
    write(papers, ".offloadignore", b"a.txt\n")
    seen = SeenFiles(before)
    assert walk(papers, seen).unchanged == 4
    assert list(seen.not_found(before)) == ["a.txt"]


@pytest.mark.rule("library-8")
@pytest.mark.parametrize("content", [b"\xff\xfe\x00 broken", b"x" * (MAX_IGNORE_BYTES + 1), b"!\n"])
def test_a_folder_whose_patterns_cannot_be_used_is_not_read_and_nothing_in_it_is_gone(
    papers: Path, content: bytes
) -> None:
    write(papers, "letters/.offloadignore", content)
    found = walk(papers)
    assert [file.key for file in found.files] == ["a.txt", "archive/b.txt"]
    (folder,) = found.unreadable
    assert (folder.key, ".offloadignore" in folder.reason) == ("letters/", True)


def test_a_library_whose_patterns_cannot_be_used_is_refused(papers: Path) -> None:
    write(papers, ".offloadignore", b"\xff")
    with pytest.raises(ScanRefused, match=r"its file \.offloadignore cannot be used: it is not UTF-8"):
        walk(papers)


def test_a_link_in_place_of_a_file_with_patterns_is_not_followed(papers: Path) -> None:
    write(papers.parent, "outside", b"*\n")
    (papers / "letters/.offloadignore").symlink_to(papers.parent / "outside")
    assert [folder.key for folder in walk(papers).unreadable] == ["letters/"]


# Not downloaded


@pytest.mark.rule("library-9")
def test_a_placeholder_of_icloud_stands_for_its_document(library: Path) -> None:
    for name in ("letters/.rent.pdf.icloud", ".film.mov.icloud", "a.txt"):
        write(library, name)
    found = walk(library)
    assert [file.key for file in found.files] == ["a.txt"]
    assert found.not_downloaded == {"letters/rent.pdf"}
    assert found.left_out["film.mov"].kind is Kind.TYPE
    assert is_not_downloaded(library, "letters/rent.pdf")
    assert not is_not_downloaded(library, "a.txt")
    assert not is_not_downloaded(library, "missing.txt")


def test_the_flag_of_macos_for_a_file_without_bytes_is_recognized() -> None:
    # Only macOS sets this flag, so no file here can have it.
    for flags, expected in ((0x40000000, True), (0x20, False)):
        assert is_dataless(cast("object", types.SimpleNamespace(st_flags=flags))) is expected  # type: ignore[arg-type]
    assert not is_dataless(Path(__file__).stat())


# Reasons


def test_the_reason_of_one_path_is_found_without_a_walk_of_the_library(papers: Path) -> None:
    for name in ("films/all.zip", "node_modules/deep/a.txt", ".rent.pdf.icloud"):
        write(papers, name)
    reasons = {
        key: None if (left := why_left_out(papers, key)) is None else left.kind
        for key in ("films/all.zip", "node_modules/deep/a.txt", "node_modules", "rent.pdf", "a.txt", "missing.zip")
    }
    assert reasons == {
        "films/all.zip": Kind.TYPE,
        "node_modules/deep/a.txt": Kind.TOOLS,
        "node_modules": Kind.TOOLS,
        "rent.pdf": Kind.NOT_DOWNLOADED,
        "a.txt": None,
        "missing.zip": None,
    }


def test_a_document_in_a_left_out_folder_has_the_reason_of_the_folder(library: Path) -> None:
    write(library, "node_modules/deep/a.txt")
    found = walk(library)
    left = found.why_left_out("node_modules/deep/a.txt")
    assert left is found.left_out["node_modules/"]
    assert found.why_left_out("b.txt") is None


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_counted_in_words(kind: Kind) -> None:
    assert describe_count(kind, 1200).startswith("1,200 ")


def test_one_program_is_not_counted_as_programs() -> None:
    assert describe_count(Kind.EXECUTABLE, 1) == "1 program"
    assert describe_count(Kind.EXECUTABLE, 2) == "2 programs"
    assert describe_count(Kind.NOT_DOWNLOADED, 1) == "1 not downloaded"
