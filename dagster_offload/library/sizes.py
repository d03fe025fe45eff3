"""The words for a file that is too large to be read. Its size is looked at before its bytes are."""


def too_large(size: int, most: int) -> str:
    """Why a file of `size` bytes is not read, and what to do."""
    return (
        f"the file has {size / 1024**2:,.0f} MiB, and files of more than {most / 1024**2:,.0f} MiB are not read: "
        "raise OFFLOAD_MAX_FILE_SIZE or split the file, then dagster-offload scan"
    )
