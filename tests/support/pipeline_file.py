"""Pipeline files that tests write."""

from pathlib import Path


def written(text: str, path: Path | str = "offload.yaml", mode: int = 0o600) -> Path:
    """Write a file, by default the pipeline file of the working folder. Returns its absolute path."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file
