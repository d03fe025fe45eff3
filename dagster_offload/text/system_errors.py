"""Why a call of the operating system failed, in its words."""


def words_of(error: OSError) -> str:
    """`No such file or directory`."""
    return error.strerror or type(error).__name__


def reason_of(error: OSError) -> str:
    """`no such file or directory`, for the middle of a sentence."""
    return words_of(error).lower()
