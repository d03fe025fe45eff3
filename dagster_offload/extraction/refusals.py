"""Why a file gives no text: the exceptions that readers raise. They become a `Refused` message."""

from dagster_offload.extraction import file_types


class FileRefused(Exception):  # noqa: N818 - an answer, not an error of the child
    """The file gives no text. `code` is for machines, the message for people; `is_final`: another try would end the same."""

    def __init__(self, code: str, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_final = is_final


def broken(kind: str, data: bytes) -> FileRefused:
    """The refusal for a file that should be of type `kind` and cannot be read as one."""
    name = file_types.describe_time(kind)
    if file_types.begins_like(kind, data):
        return FileRefused("broken_file", f"the file is broken or cut off: it cannot be read as {name}", is_final=True)
    return FileRefused("broken_file", f"the file's name says {name}, but it is something else", is_final=True)


def unsupported(message: str) -> FileRefused:
    return FileRefused("unsupported_type", message, is_final=True)


def password_protected(message: str) -> FileRefused:
    return FileRefused("password_protected", message, is_final=True)
