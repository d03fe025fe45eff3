"""The message for a file that is too large. The size is checked before the file is read."""

DEFAULT_MAX_BYTES = 512 * 1024**2


def too_large(size: int, most: int) -> str:
    """Return why a file of `size` bytes is not read and what to do. `most` is the limit in bytes."""
    return (
        f"the file has {size / 1024**2:,.0f} MiB, and the limit is {most / 1024**2:,.0f} MiB: "
        "raise OFFLOAD_MAX_FILE_SIZE or split the file, then run dagster-offload scan"
    )
