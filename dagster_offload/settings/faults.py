"""What a message about a wrong setting shows: what is allowed, and the value itself unless it may be a secret. Pure."""

from collections.abc import Sequence
from typing import Any

from dagster_offload.settings.leaves import BY_KEY
from dagster_offload.slot.config import without_password
from dagster_offload.text.suggestions import use_one_of

LONGEST_VALUE = 60  # characters

_ALTERNATIVE = "must be "


def together(messages: list[str]) -> list[str]:
    """The messages about one place. Those of a value of several types become one: `must be a whole number or 'auto'`."""
    found = list(dict.fromkeys(messages))
    types = [message.removeprefix(_ALTERNATIVE) for message in found if message.startswith(_ALTERNATIVE)]
    others = [message for message in found if not message.startswith(_ALTERNATIVE)]
    return [*([_ALTERNATIVE + " or ".join(types)] if types else []), *others]


def shown_value(path: tuple[int | str, ...], value: Any) -> str | None:
    """The wrong value, for the message; None if it may be a secret, or is no single short value."""
    leaf = next((BY_KEY[key] for length in range(len(path), 0, -1) if (key := _key(path[:length])) in BY_KEY), None)
    if leaf is None or leaf.is_secret or not isinstance(value, (str, int, float)):
        return None
    shown = repr(value)
    is_secret = isinstance(value, str) and ("@" in value or without_password(value) != value)
    is_secret = is_secret or (path[-1] == "url" and not set("?#").isdisjoint(str(value)))  # a query may hold a key
    return None if is_secret or len(shown) > LONGEST_VALUE else shown


def unknown_key(path: tuple[int | str, ...], known: Sequence[str]) -> str:
    """What is wrong with a key that its section does not have. `known` are those that it has."""
    *above, key = map(str, path)
    hint = use_one_of(key, known)
    return f"there is no key {key!r}{' in ' + '.'.join(above) if above else ''}: {hint}"


def _key(path: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(map(str, path))
