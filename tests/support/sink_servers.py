"""Servers that sinks send to: a webhook that keeps what it got, and a stand-in of Paperless-ngx."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]  # a status, and JSON or None


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def serving(answer: Callable[[Request], Answer], port: int = 0) -> Iterator[str]:
    """A server on 127.0.0.1 during the block; yields its address. Status 0: hang up without an answer."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = answer(Request(self.command, parts.path, query, headers, body))
            if status == 0:
                self.close_connection = True
                return
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Receiver:
    """A webhook. `status` is what it answers, with `error`; `got` are the requests that it answered with success."""

    status: int = 200
    got: list[Request] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    refuses: Callable[[Request], int | None] = lambda _request: None
    error: Any = field(default_factory=lambda: {"detail": ["a message that quotes the record"]})

    def answer(self, request: Request) -> Answer:
        self.seen.append(request)
        refused = self.refuses(request)
        status = self.status if refused is None else refused
        if 200 <= status < 300:
            self.got.append(request)
        return status, self.error


@dataclass
class FakePaperless:
    """Paperless-ngx, as its REST API is documented for version 9: documents, names, custom fields and notes."""

    token: str = "s3cret-token"
    documents: dict[int, dict[str, Any]] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    names: dict[str, dict[int, str]] = field(
        default_factory=lambda: {"correspondents": {}, "document_types": {}, "tags": {}}
    )
    custom_fields: dict[int, dict[str, Any]] = field(default_factory=dict)
    notes: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    writes: list[tuple[str, str]] = field(default_factory=list)
    hidden: set[tuple[str, int]] = field(default_factory=set)  # names of another user: ("tags", 5)
    read_only: set[int] = field(default_factory=set)  # documents of another user that this one may see
    refuses: Callable[[Request], int | None] = lambda _request: None
    loses: Callable[[Request], bool] = lambda _request: False  # does what it was asked for, and hangs up

    def add(self, number: int, file_name: str, checksum: str, **fields: Any) -> dict[str, Any]:
        """A document that Paperless has taken in: named after its file, dated with the day on which it was added."""
        name = file_name.rpartition("/")[2]
        self.paths[number] = file_name
        document = {
            "id": number,
            "title": name.rpartition(".")[0],
            "created": "2025-06-01",
            "added": "2025-06-01T10:00:00+02:00",
            "correspondent": None,
            "document_type": None,
            "tags": [],
            "custom_fields": [],
            "original_file_name": name,
            "content": "the text of the document",
        }
        self.documents[number] = document | fields | {"checksum": checksum}
        return self.documents[number]

    def name(self, endpoint: str, name: str) -> int:
        """The number of a name, which is added."""
        number = len(self.names[endpoint]) + 1
        self.names[endpoint][number] = name
        return number

    def named(self, endpoint: str, numbers: Any) -> Any:
        found = self.names[endpoint]
        return [found[number] for number in numbers] if isinstance(numbers, list) else found.get(numbers)

    def values(self, number: int) -> dict[str, Any]:
        """The custom fields of a document by name."""
        entries = self.documents[number]["custom_fields"]
        return {self.custom_fields[entry["field"]]["name"]: entry["value"] for entry in entries}

    def answer(self, request: Request) -> Answer:
        status = self.refuses(request)
        answer = self._answer(request) if status is None else (status, None)
        return (0, None) if self.loses(request) else answer

    def _answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Token {self.token}":
            return 401, {"detail": "Invalid token."}
        if request.headers.get("accept") != "application/json; version=9":
            return 406, {"detail": "Invalid version"}
        if request.method != "GET":
            self.writes.append((request.method, request.path))
        if found := re.fullmatch(r"/api/documents/(\d+)/notes/", request.path):
            return self._notes(int(found[1]), request)
        if found := re.fullmatch(r"/api/documents/(\d+)/(metadata/)?", request.path):
            return self._document(int(found[1]), request)
        if request.path == "/api/documents/":
            return 200, _page([_shown(each, request.query) for each in self._search(request.query)])
        if request.path == "/api/custom_fields/":
            return self._custom_fields(request)
        if found := re.fullmatch(r"/api/(correspondents|document_types|tags)/(?:(\d+)/)?", request.path):
            return self._names(found[1], found[2], request)
        return 404, None

    def _document(self, number: int, request: Request) -> Answer:
        if number not in self.documents:
            return 404, None
        document = self.documents[number]
        if request.path.endswith("/metadata/"):
            return 200, {"media_filename": self.paths[number]}
        if request.method == "PATCH" and number in self.read_only:
            return 403, {"detail": "You do not have permission to perform this action."}
        if request.method == "PATCH":
            unknown = request.json.keys() - document.keys()
            if unknown:
                return 400, {name: ["unknown"] for name in unknown}
            if any(self._is_too_big_for_the_database(**entry) for entry in request.json.get("custom_fields", ())):
                return 500, None
            faults = [self._faults_of(**entry) for entry in request.json.get("custom_fields", ())]
            if any(faults):
                return 400, {"custom_fields": faults}
            document |= request.json
        return 200, _shown(document, request.query)

    def _search(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found = list(self.documents.values())
        if "checksum__iexact" in query:
            found = [each for each in found if each["checksum"] == query["checksum__iexact"].lower()]
        if "original_filename__iexact" in query:
            wanted = query["original_filename__iexact"].lower()
            found = [each for each in found if each["original_file_name"].lower() == wanted]
        return found

    def _custom_fields(self, request: Request) -> Answer:
        if request.method == "POST":
            number = len(self.custom_fields) + 1
            self.custom_fields[number] = {"id": number, "extra_data": {}, **request.json}
            return 201, self.custom_fields[number]
        return 200, _page(list(self.custom_fields.values()))

    def _is_too_big_for_the_database(self, field: int, value: Any) -> bool:
        """Whether no validator of Paperless refuses a value, and Postgres does."""
        data_type = self.custom_fields[field]["data_type"]
        return (data_type == "url" and len(str(value)) > 200) or (
            data_type == "integer" and isinstance(value, int) and abs(value) >= 2**31
        )

    def _faults_of(self, field: int, value: Any) -> dict[str, Any]:
        """What is wrong with the value of a custom field."""
        match self.custom_fields[field]["data_type"]:
            case "string" if len(str(value)) > 128:
                return {"non_field_errors": ["Ensure this value has at most 128 characters."]}
            case "integer" if value is not None and not isinstance(value, int):
                return {"non_field_errors": ["Enter a valid integer."]}
        return {}

    def _names(self, endpoint: str, number: str | None, request: Request) -> Answer:
        if number is not None:
            name = None if (endpoint, int(number)) in self.hidden else self.names[endpoint].get(int(number))
            return (404, None) if name is None else (200, {"id": int(number), "name": name})
        if request.method == "POST":
            name = request.json["name"]
            return 201, {"id": self.name(endpoint, name), "name": name}
        wanted = request.query.get("name__iexact", "").lower()
        found = [{"id": n, "name": name} for n, name in self.names[endpoint].items() if name.lower() == wanted]
        return 200, _page(found)

    def _notes(self, number: int, request: Request) -> Answer:
        notes = self.notes.setdefault(number, [])
        if request.method == "POST":
            notes.append({"id": len(self.writes), "note": request.json["note"]})
        if request.method == "DELETE":
            self.notes[number] = [note for note in notes if note["id"] != int(request.query["id"])]
        return 200, self.notes[number]


def _shown(document: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """A document as an answer has it. The checksum is not in it."""
    content = document["content"][: 550 if query.get("truncate_content") == "true" else None]
    return {name: value for name, value in document.items() if name != "checksum"} | {"content": content}


def _page(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"count": len(entries), "next": None, "previous": None, "results": entries}
