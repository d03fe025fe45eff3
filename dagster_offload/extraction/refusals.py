"""The exceptions that readers raise for a file that gives no text. The child sends them as `Refused` messages."""

from dagster_offload.extraction import file_types
from dagster_offload.extraction.file_types.detection import begins_as


class FileRefused(Exception):  # noqa: N818 - an answer, not an error of the child
    """The file gives no text. `code` is a reason code, `message` is for people. `is_final`: a retry would end the same."""

    def __init__(self, code: str, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_final = is_final


def broken(kind: str, data: bytes) -> FileRefused:
    """Return the refusal for a file of type `kind` that is damaged, or whose content is of another type."""
    name = file_types.describe_type(kind)
    if begins_as(kind, data):
        return FileRefused("broken_file", f"the file is broken or cut off: it cannot be read as {name}", is_final=True)
    return FileRefused("broken_file", f"the file name says {name}, but the content is something else", is_final=True)


def unsupported(message: str) -> FileRefused:
    """Return the refusal for a file of a type that is not supported."""
    return FileRefused("unsupported_type", message, is_final=True)


def password_protected(message: str) -> FileRefused:
    """Return the refusal for a file that needs a password or another key."""
    return FileRefused("password_protected", message, is_final=True)
