"""Read a dynamic form (XFA) in a PDF: its labels, each with the value that was filled in.

Such a PDF has a single page, which asks the reader to use another viewer. The form is XML: a template, and the data.
Format specification: XML Forms Architecture 3.3.
"""

import ctypes
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import pypdfium2.raw as pdfium

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.parts.zip_xml import attribute, local, parse

_HIDDEN = frozenset({"hidden", "invisible", "inactive"})
_UNREAD = frozenset({"button", "passwordEdit", "signature", "barcode", "imageEdit"})  # ways to fill in a field
_BLOCKS = frozenset({"p", "br", "li", "tr"})  # of rich text


def is_dynamic_form(document: Any) -> bool:
    """Whether the pages of this PDF only stand in for a form that another viewer would show."""
    return bool(document.get_formtype() == pdfium.FORMTYPE_XFA_FULL)


def form_text(document: Any) -> str:
    """Return the form's labels and values in the order of the template, "" if the form cannot be read."""
    packets = {local(root): root for root in _packets(document)}
    template, data = packets.get("template"), packets.get("datasets")
    if template is None:
        return ""
    form = _Form({} if data is None else _values(data))
    lines = [line for line in form.lines(template) if line.strip()]
    return "\n".join([*lines, *form.left_over()])


def _packets(document: Any) -> Iterator[Element]:
    for index in range(max(0, pdfium.FPDF_GetXFAPacketCount(document.raw))):
        size = ctypes.c_ulong()
        pdfium.FPDF_GetXFAPacketContent(document.raw, index, None, 0, size)
        content = ctypes.create_string_buffer(size.value + 1)
        if not pdfium.FPDF_GetXFAPacketContent(document.raw, index, content, size.value, size):
            continue
        try:
            root = parse(content.raw[: size.value])
        except DAMAGE_ERRORS:  # the first and the last packet are the two halves of one element
            continue
        yield root
        yield from root  # a form that is not divided into packets


def _values(datasets: Element) -> dict[str, list[str]]:
    """Return the values that were filled in, by the name of their field, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for data in datasets:
        if local(data) == "data":
            _collect(data, found)
    return found


def _collect(parent: Element, found: dict[str, list[str]]) -> None:
    for element in parent:
        is_rich = any(local(child) == "body" for child in element)
        if len(element) and not is_rich:
            _collect(element, found)
        elif text := " ".join(_rich_text(element).split()):
            found[local(element)].append(text)


class _Form:
    """Writes the form. `values` are taken out when their field is written."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self.values = values
        self.groups: list[str] = []  # the value of each radio group that is open
        self.hidden: set[str] = set()  # names; a field that is shown may have the same name

    def lines(self, parent: Element) -> Iterator[str]:
        for element in parent:
            if attribute(element, "presence") in _HIDDEN:
                self.hidden.update(attribute(hidden, "name") or "" for hidden in element.iter())
                continue
            match local(element):
                case "draw":
                    yield _text_in(element, "value")
                case "field":
                    yield self._field(element)
                case "exclGroup":
                    yield _text_in(element, "caption")
                    self.groups.append(", ".join(self._taken(element)))
                    yield from self.lines(element)
                    self.groups.pop()
                case "subform" | "subformSet" | "area" | "pageSet" | "pageArea":
                    yield from self.lines(element)

    def left_over(self) -> list[str]:
        """Return the values that no field shows or hides."""
        left = [(name, values) for name, values in self.values.items() if name not in self.hidden]
        return [f"{name}: {value}" for name, values in left for value in values]

    def _taken(self, field: Element) -> list[str]:
        """Take the values of a field. A field of a repeated row has several."""
        return self.values.pop(attribute(field, "name") or "", [])

    def _field(self, field: Element) -> str:
        kinds = {local(kind) for ui in field if local(ui) == "ui" for kind in ui}
        lists = [items for items in field if local(items) == "items"]
        values, caption = self._taken(field), _text_in(field, "caption")
        if kinds & _UNREAD:
            return ""
        if "checkButton" in kinds:
            mark = next((_rich_text(item) for items in lists for item in items), "1")
            is_chosen = mark in (values or self.groups[-1:] or [_text_in(field, "value")])
            return f"[{'x' if is_chosen else ' '}] {caption}"
        saved = next((items for items in lists if attribute(items, "save") == "1"), None)
        shown = next((items for items in lists if attribute(items, "save") != "1"), None)
        if saved is not None and shown is not None:
            labels = {_rich_text(key): _rich_text(label) for key, label in zip(saved, shown, strict=False)}
            values = [labels.get(value, value) for value in values]
        return f"{caption} {', '.join(values) or _text_in(field, 'value')}".strip()


def _text_in(element: Element, name: str) -> str:
    return " ".join(_rich_text(child).strip() for child in element if local(child) == name).strip()


def _rich_text(element: Element) -> str:
    """Return the text of an element. A paragraph of rich text is a line."""
    parts = [element.text or ""]
    for child in element:
        text = "" if local(child) == "image" else _rich_text(child)  # a picture is in Base64
        parts += ["\n" if local(child) in _BLOCKS else "", text, child.tail or ""]
    return "".join(parts)
