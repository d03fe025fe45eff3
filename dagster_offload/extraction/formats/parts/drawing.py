"""Read the texts of drawings in Office documents: text boxes, shapes and SmartArt.

Format specification: ECMA-376 part 1, DrawingML.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.zip_xml import local


def paragraphs(drawing: Element) -> Iterator[str]:
    """Yield the paragraphs of a drawing that have words. A line break within a paragraph is a line end."""
    for element in drawing.iter():
        if local(element) == "p":
            inner = (child for child in element.iter() if local(child) in ("t", "br"))
            text = "".join("\n" if local(child) == "br" else child.text or "" for child in inner)
            if text.strip():
                yield text
