"""One line of what an error or a program says."""


def first_line(error: BaseException) -> str:
    """The first line of the error's message, at most 200 characters. Later lines can quote a document."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"


def last_line(output: str) -> str:
    """The last line of a program's output that is not empty; `no output` if there is none."""
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"
