"""The exceptions that readers raise for a file that gives no text. The child sends them as `Refused` messages."""

from dagster_offload.extraction.encodings.decoding import decode
from dagster_offload.extraction.file_types import describe_type
from dagster_offload.extraction.file_types.detection import begins_as

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class FileRefused(Exception):  # noqa: N818 - an answer, not an error of the child
    """The file gives no text. `code` is a reason code, `message` is for people. `is_final`: a retry would end the same."""

    def __init__(self, code: str, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_final = is_final


def broken(kind: str, data: bytes) -> FileRefused:
    """Return the refusal for a file of type `kind` that is damaged, or whose content is of another type."""
    return FileRefused("broken_file", _why_broken(describe_type(kind), data, begins_as(kind, data)), is_final=True)


def _why_broken(name: str, data: bytes, is_of_its_kind: bool) -> str:
    if is_placeholder(data):
        return "the file is a placeholder of Git LFS: run `git lfs pull` in its folder"
    if is_of_its_kind:
        return (
            f"the file is broken or cut off: it is no readable {name}. Copy it here again, or open it in its program and "
            "save it again"
        )
    if decode(data) is not None:
        return f"the file name says {name}, but the content is something else, plain text: rename it to .txt"
    return f"the file name says {name}, but the content is something else: save it again in that format"


def is_placeholder(data: bytes) -> bool:
    """Whether Git LFS has not downloaded the file yet."""
    return data.startswith(_LFS_POINTER)


def unsupported(message: str) -> FileRefused:
    """Return the refusal for a file of a type that is not supported."""
    return FileRefused("unsupported_type", message, is_final=True)


def protected(how: str = "by a password") -> FileRefused:
    """Return the refusal for a file that needs a password or another key."""
    return FileRefused(
        "password_protected", f"the file is protected {how}: save a copy without protection", is_final=True
    )
