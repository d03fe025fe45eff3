"""Small PDF files written object by object, so that each has exactly one special property."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A page's content stream and its annotations: each a dictionary without `<<` and `>>`, and its appearance stream."""

    content: str
    annotations: Sequence[tuple[str, str]] = ()
    attributes: str = ""


def line(text: str, x: float, y: float) -> str:
    return f"BT /F1 12 Tf {x} {y} Td ({text}) Tj ET"


def lines(*texts: str) -> str:
    return "\n".join(line(text, 72, 600 - 20 * number) for number, text in enumerate(texts))


def turned(content: str, cosine: float, sine: float) -> str:
    """Rotate the content about the middle of the page."""
    x, y = 297 - cosine * 297 + sine * 421, 421 - sine * 297 - cosine * 421
    return f"q {cosine} {sine} {-sine} {cosine} {x} {y} cm\n{content}\nQ"


def made_pdf(
    *pages: Page,
    unicodes: dict[str, str] | None = None,
    packets: Sequence[tuple[str, str]] = (),
    attached: Sequence[str] = (),
    catalog: str = "",
) -> bytes:
    """Make a PDF of A4 pages in Helvetica. `unicodes` maps letters to the characters (UTF-16, hex) they stand for.

    `packets` are the names and contents of an XFA form's parts, `attached` the names of attached files, `catalog` more entries.
    """
    objects: list[bytes] = [b"", b"", b""]

    def add(content: str) -> int:
        objects.append(content.encode("latin-1"))
        return len(objects)

    def stream(content: str, attributes: str = "") -> int:
        return add(f"<< /Length {len(content)} {attributes} >>\nstream\n{content}\nendstream")

    numbers, fields = [], []
    for page in pages:
        widgets = []
        for entries, appearance in page.annotations:
            look = ""
            if appearance:
                box = "/Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /F1 3 0 R >> >>"
                look = f"/AP << /N {stream(appearance, box)} 0 R >>"
            widgets.append(add(f"<< /Type /Annot {entries} /F 4 {look} >>"))
            if "/Widget" in entries:
                fields.append(widgets[-1])
        content = stream(page.content)
        annotations = " ".join(f"{number} 0 R" for number in widgets)
        resources = "/Resources << /Font << /F1 3 0 R >> >>"
        numbers.append(
            add(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] {resources} {page.attributes} "
                f"/Contents {content} 0 R /Annots [{annotations}] >>"
            )
        )
    letters = ""
    if unicodes:
        pairs = "\n".join(f"<{ord(letter):02x}> <{code}>" for letter, code in unicodes.items())
        cmap = stream(
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n1 begincodespacerange <00> <ff> "
            f"endcodespacerange\n{len(unicodes)} beginbfchar\n{pairs}\nendbfchar\nendcmap end end"
        )
        letters = f"/ToUnicode {cmap} 0 R"
    forms = " ".join(f"({name}) {stream(content)} 0 R" for name, content in packets)
    for name in attached:
        file = stream("content", "/Type /EmbeddedFile")
        add(f"<< /Type /Filespec /F ({name}) /UF ({name}) /EF << /F {file} 0 R >> >>")
        catalog += f" /Names << /EmbeddedFiles << /Names [({name}) {len(objects)} 0 R] >> >>"
    form = "/AcroForm << /Fields [{}] /XFA [{}] /DR << /Font << /F1 3 0 R >> >> /DA (/F1 12 Tf 0 g) >>".format(
        " ".join(f"{number} 0 R" for number in fields), forms
    )
    objects[0] = (
        f"<< /Type /Catalog /Pages 2 0 R {form if fields or 'NeedsRendering' in catalog or packets else ''} {catalog} >>".encode()
    )
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(numbers)} >>".encode()
    objects[2] = f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica {letters} >>".encode()
    return _file(objects)


def _file(objects: Sequence[bytes]) -> bytes:
    made, starts = b"%PDF-1.6\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(made))
    return made + head + table + trailer
