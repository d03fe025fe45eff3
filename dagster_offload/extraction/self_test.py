"""Check with a real child whether this machine can extract text from files."""

from pathlib import Path

from dagster_offload.errors import ExtractionFailed, ExtractorUnavailable, MachineFault
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.private_folder import make_private_folder
from dagster_offload.text.system_errors import reason_of

# A PDF with one empty page. If it cannot be read, no PDF can.
EMPTY_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj
trailer<</Root 1 0 R>>
startxref
0
%%EOF
"""


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
        reason = reason_of(error)
        return f"cannot write to a temporary folder ({reason}): set TMPDIR to a folder of your own with free space"
    return None
