"""A loopback port that every connection of Libcloud's drivers leads to, whatever their host.

What it answers are the files of Libcloud's own tests, taken from real clouds, and what a test makes
of them; what it was sent are the goldens.
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
    """One request."""

    host: str
    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    """JSON read, other text as it is."""


Reply = Any
"""A name of one of Libcloud's files, what is to be JSON, or HTML; a pair has the status in front. A
ConnectionError: none comes.
"""


@dataclass
class StubServer:
    """The cloud: routes that answer, and all that was asked."""

    folder: str
    """Of `FILES`."""
    routes: list[tuple[str, re.Pattern[str], Callable[[Request], Reply]]] = field(
        default_factory=list
    )
    requests: list[Request] = field(default_factory=list)

    def on(self, method: str, path: str, reply: Reply | Callable[[Request], Reply]) -> None:
        """Answer such requests so; the latest route that fits counts."""
        call = reply if callable(reply) else lambda request: reply
        self.routes.insert(0, (method, re.compile(path), call))

    def file(self, name: str) -> Any:
        """What one of Libcloud's files says."""
        return json.loads((FILES / self.folder / name).read_text())

    def write_requests(self) -> list[Request]:
        """What was to change something, log-ins aside."""
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
        raise AssertionError(f"nobody answers {request.method} {request.path}")


class _StubHost:
    """In place of a connection's host."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __get__(self, instance: object, owner: type) -> str:
        return self.url

    def __set__(self, instance: object, value: str) -> None:
        pass


StartStub = Callable[[str], StubServer]
"""Starts one, of the folder that has its answers."""


@contextmanager
def serve(folder: str) -> Iterator[StubServer]:
    """Answer in a thread of this process, whose Libcloud reaches nothing else."""
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
            except ConnectionError:  # no answer at all
                self.close_connection = True
                return
            except Exception as error:  # told as an answer, where the test sees it
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
