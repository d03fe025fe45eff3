"""Sizes as people read them, in the units that settings are written in, so that a size can be compared with its limit."""

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def shown_size(count: int) -> str:
    """Bytes as text, rounded down to a tenth: `900 bytes`, `1.5 KiB`, `512 MiB`, `113.2 GiB`.

    Not rounded to the nearest, because 511.99 MiB must not look like enough for 512 MiB.
    """
    if count < 1024:
        return f"{count} bytes"
    unit, tenths = 0, count * 10 // 1024
    while tenths >= 10240 and unit < len(_UNITS) - 1:
        unit, tenths = unit + 1, tenths // 1024
    whole, tenth = divmod(tenths, 10)
    return f"{whole:,}.{tenth} {_UNITS[unit]}" if tenth else f"{whole:,} {_UNITS[unit]}"
