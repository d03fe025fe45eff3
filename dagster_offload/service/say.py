"""How the parts of `up` print a line: they are given a function, so that a test can collect the lines."""

from collections.abc import Callable

Say = Callable[[str], None]
