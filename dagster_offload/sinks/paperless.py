"""Paperless-ngx as a sink, by its REST API: https://docs.paperless-ngx.com/api/ (version 9, which 2.16 and later answer).

The document there is found by the checksum of its file (SHA-256, or MD5 of releases before 3) or by its file name. Every
request can be repeated: names are looked up before they are created, and a note that is there is not added again.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from dagster_offload.library.digests import md5_of_unchanged
from dagster_offload.settings.sections.sinks import PaperlessSettings
from dagster_offload.settings.sections.unset import needed
from dagster_offload.sinks.faults import Blame, SinkFault, check_answer
from dagster_offload.sinks.http_server import HttpServer
from dagster_offload.sinks.message import Message
from dagster_offload.sinks.paperless_fields import NEW_TYPES, TEXT, fitting, refused_fields, value_for, value_in
from dagster_offload.sinks.paperless_plan import Changes, Hidden, Present, Wanted, changes, known, wanted_of
from dagster_offload.text.counts import counted

API_VERSION = 9
MAX_PAGES = 100  # of a list; each has at most 100 entries
# The text of a document may be longer than an answer may be, and no part of it is read.
_SHORT = {"truncate_content": "true"}
_LISTS = {"correspondent": "correspondents", "document_type": "document_types"}

_ONE_ENTRY = re.compile(r"[a-z_]+/\d+/")  # the path of a document that was found, or of a name

Flatten = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class _NoAccess(SinkFault):
    """Paperless does not let this user do that with one entry: it belongs to another user, or it was just deleted."""

    def __init__(self, status: int, method: str, path: str) -> None:
        super().__init__(
            Blame.REFUSED,
            f"HTTP {status} at /api/{path}: check whether the token's user may see and change the document",
            # The user may be allowed to change documents, or to add notes, nowhere. Then it is a matter of the settings.
            is_of_record=_ONE_ENTRY.fullmatch(path) is not None and (status == 404 or method == "GET"),
        )


class Paperless:
    """One Paperless-ngx server."""

    def __init__(
        self,
        settings: PaperlessSettings,
        token: str,
        library: Path | None,
        flatten: Flatten,
        types: Mapping[str, str],
    ) -> None:
        """`flatten` turns a record into one value a column; `types` are the types of the columns, by name."""
        self._settings = settings
        self._library = library
        self._flatten = flatten
        self._types = types
        headers = {
            "authorization": f"Token {token}",
            "accept": f"application/json; version={API_VERSION}",
        }
        self._api = f"{needed(settings.paperless).rstrip('/').removesuffix('/api')}/api/"
        self._server = HttpServer(headers, settings.timeout)

    def send(self, message: Message) -> Mapping[str, Any]:
        """Change the document in Paperless. Returns what we have written there by now. Raises `SinkFault`."""
        with _known_form():
            return self._send(message)

    def _send(self, message: Message) -> Mapping[str, Any]:
        number = self._find(message)
        document = self._get(f"documents/{number}/", **_SHORT)
        fields = self._custom_fields()
        wanted = self._fitting(wanted_of(self._flatten(message.record), self._settings), fields)
        present = self._present(document, fields)
        before, maybe = _of_document(number, message.written), _of_document(number, message.maybe_written)
        decided = changes(wanted, present, known(before, maybe, present), overwrite=self._settings.overwrite)
        written = {**decided.written, "number": number}
        body = self._body(decided, document, fields)
        if body or decided.note is not None:
            # Whether the requests below arrive may stay unknown, and Paperless does not say who set a value.
            message.will_write(written)
        if body:
            self._change(number, body, fields)
        if decided.note is not None:
            self._add_note(number, decided.note, {before.get("note"), maybe.get("note")} - {decided.note})
        return written

    def test(self, message: Message) -> str:
        """Check the address and the token, and change nothing. Raises `SinkFault`."""
        with _known_form():
            count = self._count()
            fields = self._custom_fields()
        missing = [name for name in self._settings.custom_fields if name not in fields]
        notes = f"; custom fields to be created: {', '.join(missing)}" if missing else ""
        return f"Paperless answers and shows {counted(count, 'document')} to this token{notes}"

    def cancel(self) -> None:
        """A request in flight ends by itself, at its time limit at the latest."""

    def _find(self, message: Message) -> int:
        """The number of the document in Paperless."""
        if self._settings.match == "path":
            return self._find_by_path(message.document)
        for digest in self._digests(message):
            found = self._get("documents/", checksum__iexact=digest, page_size=2, **_SHORT)["results"]
            if found:
                return int(found[0]["id"])
        raise self._not_found("Paperless has no document with the checksum of this file: has it taken the file in yet?")

    def _digests(self, message: Message) -> list[str]:
        """The checksums of the file. The ledger has the SHA-256; the MD5 is computed, if the file is still the same."""
        if message.digest is None:
            return []
        md5 = None if self._library is None else md5_of_unchanged(self._library, message.document, message.digest)
        return [message.digest] if md5 is None else [message.digest, md5]

    def _find_by_path(self, document: str) -> int:
        name = document.rpartition("/")[2]
        found = self._get("documents/", original_filename__iexact=name, page_size=100, **_SHORT)["results"]
        if len(found) > 1:
            found = [each for each in found if self._has_path(each["id"], document)]
        if len(found) != 1:
            raise self._not_found(f"Paperless has {len(found) or 'no'} documents with this file name and path")
        return int(found[0]["id"])

    def _not_found(self, reason: str) -> SinkFault:
        """The fault of a document that is not there: the record's, or the sink's if this token is shown no document at all."""
        if self._count() > 0:
            return SinkFault(Blame.REFUSED, reason, is_of_record=True)
        return SinkFault(
            Blame.MISCONFIGURED,
            "Paperless shows no document at all to this token: check the permissions of its user, and whether Paperless has "
            "taken any file in",
        )

    def _count(self) -> int:
        """How many documents Paperless shows to this token."""
        return int(self._get("documents/", page_size=1, **_SHORT)["count"])

    def _has_path(self, number: int, document: str) -> bool:
        stored = str(self._get(f"documents/{number}/metadata/").get("media_filename", ""))
        return stored == document or document.endswith(f"/{stored}") or stored.endswith(f"/{document}")

    def _custom_fields(self) -> dict[str, dict[str, Any]]:
        """The custom fields that Paperless knows, by name."""
        return {field["name"]: field for field in self._all("custom_fields/")}

    def _present(self, document: Mapping[str, Any], fields: Mapping[str, dict[str, Any]]) -> Present:
        names = {field["id"]: field for field in fields.values()}
        named = {
            key: None if document[key] is None else self._name(endpoint, document[key])
            for key, endpoint in _LISTS.items()
        }
        return Present(
            title=document["title"],
            created=document["created"],
            correspondent=named["correspondent"],
            document_type=named["document_type"],
            tags=tuple(self._name("tags", number) for number in document["tags"]),
            custom_fields={
                names[entry["field"]]["name"]: value_in(names[entry["field"]], entry["value"])
                for entry in document.get("custom_fields", ())
                if entry["field"] in names
            },
            added=document["added"],
            file_name=document.get("original_file_name") or "",
        )

    def _body(self, decided: Changes, document: Mapping[str, Any], fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """The changes with numbers instead of names."""
        body = dict(decided.values)
        for key, endpoint in _LISTS.items():
            if key in body:
                body[key] = self._number(endpoint, body[key])
        if "tags" in body:
            body["tags"] = [self._number("tags", name) for name in body["tags"]]
        if "custom_fields" in body:
            untouched = {entry["field"]: entry["value"] for entry in document.get("custom_fields", ())}
            body["custom_fields"] = [
                self._custom_field(name, value, fields, untouched) for name, value in body["custom_fields"].items()
            ]
        return body

    def _fitting(self, wanted: Wanted, fields: Mapping[str, dict[str, Any]]) -> Wanted:
        """The values as Paperless will hold them, so that they can be compared with those that it has."""
        return replace(
            wanted,
            custom_fields={
                name: fitting(value, self._data_type(name, fields)) for name, value in wanted.custom_fields.items()
            },
        )

    def _data_type(self, name: str, fields: Mapping[str, dict[str, Any]]) -> str:
        """The type of a custom field, or of the one that would be created."""
        if name in fields:
            return str(fields[name]["data_type"])
        return NEW_TYPES.get(self._types.get(self._settings.custom_fields[name], ""), TEXT)

    def _change(self, number: int, body: Mapping[str, Any], fields: Mapping[str, dict[str, Any]]) -> None:
        """Change a document. Raises `SinkFault`, which names the custom fields that do not take their values."""
        path = f"documents/{number}/"
        response = self._answer("PATCH", path, params=_SHORT, json=body)
        names = {field["id"]: name for name, field in fields.items()}
        refused = [repr(names[field]) for field in refused_fields(response, body)]
        if refused:
            what = f"the custom field {refused[0]} does" if len(refused) == 1 else f"{', '.join(refused)} do"
            raise SinkFault(
                Blame.REFUSED,
                f"HTTP {response.status_code} at /api/{path}: {what} not take this value: check its type in Paperless",
            )
        check_answer(response, f" at /api/{path}")

    def _custom_field(
        self, name: str, value: Any, fields: dict[str, dict[str, Any]], untouched: Mapping[int, Any]
    ) -> dict[str, Any]:
        field = fields.get(name)
        if field is None:
            self._refuse_to_create(f"custom field {name!r}")
            data_type = self._data_type(name, fields)
            field = fields[name] = self._request("POST", "custom_fields/", json={"name": name, "data_type": data_type})
        if field["id"] in untouched and value_in(field, untouched[field["id"]]) == value:
            return {"field": field["id"], "value": untouched[field["id"]]}
        return {"field": field["id"], "value": value_for(field, value)}

    def _name(self, endpoint: str, number: int) -> str | Hidden:
        try:
            return str(self._get(f"{endpoint}/{number}/")["name"])
        except _NoAccess:
            return Hidden(number)

    def _number(self, endpoint: str, name: str | Hidden) -> int:
        """The number of a correspondent, a type or a tag, which is created if it is missing."""
        if isinstance(name, Hidden):
            return name.number
        found = self._get(f"{endpoint}/", name__iexact=name)["results"]
        if not found:
            self._refuse_to_create(f"{endpoint.removesuffix('s').replace('_', ' ')} of that name")
            found = [self._request("POST", f"{endpoint}/", json={"name": name})]
        return int(found[0]["id"])

    def _refuse_to_create(self, what: str) -> None:
        if not self._settings.create:
            raise SinkFault(Blame.REFUSED, f"Paperless has no {what}: create it there, or set `create: true`")

    def _add_note(self, number: int, note: str, before: Container[str | None]) -> None:
        """Add a note, and remove those that we wrote before, if they are still as we wrote them."""
        path = f"documents/{number}/notes/"
        present = self._get(path)
        if not any(each["note"] == note for each in present):
            self._request("POST", path, json={"note": note})
        for each in present:
            if each["note"] in before:
                self._request("DELETE", path, params={"id": each["id"]})

    def _all(self, path: str) -> list[dict[str, Any]]:
        """All entries of a list, page by page."""
        entries: list[dict[str, Any]] = []
        for page in range(1, MAX_PAGES + 1):
            content = self._get(path, page=page, page_size=100)
            entries += content["results"]
            if not content.get("next"):
                return entries
        raise SinkFault(
            Blame.MISCONFIGURED, f"more than {MAX_PAGES} pages at /api/{path}: is it the address of Paperless?"
        )

    def _get(self, path: str, **parameters: Any) -> Any:
        return self._request("GET", path, params=parameters)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        response = self._answer(method, path, **options)
        check_answer(response, f" at /api/{path}")
        try:
            return response.json() if response.content else None
        except (ValueError, RecursionError):
            raise SinkFault(Blame.MISCONFIGURED, f"no JSON at /api/{path}: is it the address of Paperless?") from None

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._server.request(method, self._api + path, **options)
        if response.status_code in (403, 404) and _ONE_ENTRY.match(path):
            raise _NoAccess(response.status_code, method, path)
        return response


def _of_document(number: int, written: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was written for this document there. Earlier releases stored no number.

    A changed file is another document there: what was written for the former one says nothing about this one.
    """
    return written if written.get("number", number) == number else {}


@contextmanager
def _known_form() -> Iterator[None]:
    """Turn the errors of reading an answer of another form into `SinkFault`."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise SinkFault(
            Blame.REFUSED, f"Paperless answered in a form that is not known ({type(error).__name__})"
        ) from error
