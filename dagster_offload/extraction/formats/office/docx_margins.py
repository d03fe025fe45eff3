"""Find the headers and footers that the pages of a Word document show. A file also keeps those that are switched off.

Format specification: ECMA-376 part 1, 17.10.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.office.docx_lists import is_on
from dagster_offload.extraction.formats.parts.zip_xml import attribute, local


def shown_margins(document: Element, settings: Element, name: str) -> list[str] | None:
    """Return the ids of the relationships of shown headers (`headerReference`) or footers, in order of the sections.

    None if no section names any: some programs rely on the relationships alone.
    """
    sections = [element for element in document.iter() if local(element) == "sectPr"]
    if not any(local(one) == name for section in sections for one in section):
        return None
    return list(dict.fromkeys(_shown(sections, name, is_on(settings, "evenAndOddHeaders"))))


def _shown(sections: list[Element], name: str, has_even_pages: bool) -> Iterator[str]:
    named: dict[str, str] = {}  # by the type of page; a section without one has that of the section before
    for section in sections:
        for reference in section:
            if local(reference) == name:
                named[attribute(reference, "type") or "default"] = attribute(reference, "id") or ""
        kinds = {"first": is_on(section, "titlePg"), "default": True, "even": has_even_pages}
        yield from (named[kind] for kind, is_shown in kinds.items() if is_shown and kind in named)
