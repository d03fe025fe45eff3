"""Sizes as people read them, in binary units, so that a size can be compared with its limit."""

from collections.abc import Callable

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def shown_size(count: int) -> str:
    """Bytes as text, rounded down to a tenth: `900 bytes`, `1.5 KiB`, `512 MiB`, `113.2 GiB`.

    Not rounded to the nearest, because 511.99 MiB must not look like enough for 512 MiB.
    """
    return _shown(count, lambda number: number // 1024)


def shown_size_above(count: int) -> str:
    """Bytes as text, rounded up to a tenth: for a size that exceeds a limit, so that the two never look equal."""
    return _shown(count, lambda number: -(-number // 1024))


def _shown(count: int, by_1024: Callable[[int], int]) -> str:
    if count < 1024:
        return f"{count} bytes"
    unit, tenths = 0, by_1024(count * 10)
    while tenths >= 10240 and unit < len(_UNITS) - 1:
        unit, tenths = unit + 1, by_1024(tenths)
    whole, tenth = divmod(tenths, 10)
    return f"{whole:,}.{tenth} {_UNITS[unit]}" if tenth else f"{whole:,} {_UNITS[unit]}"
