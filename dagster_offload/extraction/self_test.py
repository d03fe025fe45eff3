"""Check with a real child whether this machine can extract text from files."""

from pathlib import Path

from dagster_offload.errors import ExtractionFailed, ExtractorUnavailable, MachineFault
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types import EMPTY_PDF
from dagster_offload.extraction.private_folder import make_private_folder


def why_documents_wait(home: Path) -> str | None:
    """Return why the extractor cannot read a PDF file on this machine and what to change, or None if it can."""
    try:
        with make_private_folder(home) as folder, Extractor(home=home) as extractor:
            file = Path(folder, "empty.pdf")
            file.write_bytes(EMPTY_PDF)
            extractor.extract(file)
    except (ExtractorUnavailable, MachineFault, ExtractionFailed) as fault:
        return str(fault)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return f"cannot write to a temporary folder ({reason}): set TMPDIR to a folder of your own with free space"
    return None
