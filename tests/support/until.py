"""Wait for a condition that no event announces."""

import threading
from collections.abc import Callable


def wait_for(condition: Callable[[], object]) -> None:
    """Return when the condition is true. Raises `TimeoutError` after a minute."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.02)
    raise TimeoutError
