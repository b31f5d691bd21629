"""Loopback server for every connection of Libcloud's drivers, whatever their host.

Its responses are the files of Libcloud's own tests, recorded from real clouds, or changed by a test;
tests compare the requests with the expected ones.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import libcloud
import pytest
from libcloud.http import LibcloudConnection

FILES = Path(libcloud.__file__).parent / "test" / "compute" / "fixtures"


@dataclass
class Request:
    """Request that the server received."""

    host: str
    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    """Body: parsed JSON, or the text."""


Reply = Any
"""Response: the name of one of Libcloud's files, a value for JSON, or HTML; or a pair with the status
before it. A ConnectionError: no response.
"""


@dataclass
class StubServer:
    """Simulated cloud: routes with their responses, and all requests."""

    folder: str
    """Folder in `FILES`."""
    routes: list[tuple[str, re.Pattern[str], Callable[[Request], Reply]]] = field(
        default_factory=list
    )
    requests: list[Request] = field(default_factory=list)

    def on(self, method: str, path: str, reply: Reply | Callable[[Request], Reply]) -> None:
        """Set the response to such requests; the latest route that matches is used."""
        call = reply if callable(reply) else lambda request: reply
        self.routes.insert(0, (method, re.compile(path), call))

    def file(self, name: str) -> Any:
        """Return the JSON in one of Libcloud's files."""
        return json.loads((FILES / self.folder / name).read_text())

    def write_requests(self) -> list[Request]:
        """Return the requests that change something, except logins."""
        return [s for s in self.requests if s.method != "GET" and not s.path.endswith("/token")]

    def answer(self, request: Request) -> tuple[int, str, bytes]:
        self.requests.append(request)
        for method, path, call in self.routes:
            if method == request.method and path.fullmatch(request.path):
                reply = call(request)
                if isinstance(reply, ConnectionError):
                    raise reply
                status, reply = reply if isinstance(reply, tuple) else (200, reply)
                if isinstance(reply, str) and reply.endswith(".json"):
                    reply = self.file(reply)
                if isinstance(reply, str):
                    return status, "text/html", reply.encode()
                text = b"" if reply is None else json.dumps(reply).encode()
                return status, "application/json", text
        raise AssertionError(f"no route for {request.method} {request.path}")


class _StubHost:
    """Address in place of a connection's host."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __get__(self, instance: object, owner: type) -> str:
        return self.url

    def __set__(self, instance: object, value: str) -> None:
        pass


StartStub = Callable[[str], StubServer]
"""Function that starts a cloud with the responses in a folder."""


@contextmanager
def serve(folder: str) -> Iterator[StubServer]:
    """Serve from a thread of this process; its Libcloud connects to no other server."""
    cloud = StubServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                body = json.loads(raw) if raw else None
            except ValueError:
                body = raw.decode()
            host = self.headers.get("Host", "")
            try:
                status, kind, answer = cloud.answer(
                    Request(host, self.command, url.path, parse_qs(url.query), body)
                )
            except ConnectionError:  # no response
                self.close_connection = True
                return
            except Exception as error:  # sent as a response, which the test shows
                status, kind, answer = 418, "text/plain", repr(error).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            LibcloudConnection, "host", _StubHost(f"http://127.0.0.1:{server.server_port}")
        )
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
