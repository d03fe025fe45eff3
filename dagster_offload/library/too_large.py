"""The message for a file that is too large. The size is checked before the file is read."""

from dagster_offload.text.sizes import shown_size, shown_size_above

DEFAULT_MAX_BYTES = 512 * 1024**2


def too_large(size: int, most: int) -> str:
    """Return why a file of `size` bytes is not read and what to do. `most` is the limit in bytes."""
    return (
        f"the file has {shown_size_above(size)}, and the limit is {shown_size(most)}: "
        "raise OFFLOAD_MAX_FILE_SIZE or split the file, then scan again"
    )
