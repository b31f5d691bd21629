"""The parts of Google's XML API and of Azure's Blob API that a state needs, by their documentation.

Credentials are not checked. This does not prove that the real services behave like this.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response


class Blobs:
    """A WSGI app that stores objects by path, each with its generation."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}
        self.generation = 0
        self.url = ""
        self._lock = threading.Lock()

    @Request.application
    def __call__(self, request: Request) -> Response:
        """Answer a request."""
        with self._lock:
            path = request.path
            generation, data = self.objects.get(path, (0, b""))
            match request.method:
                case "GET" if generation:
                    return self._answer(200, generation, data)
                case "GET":
                    return self._answer(404)
                case "PUT" if self._allows(request, generation):
                    self.generation += 1
                    self.objects[path] = (self.generation, request.get_data())
                    return self._answer(201, self.generation)
                case "PUT":
                    return self._answer(412)
                case "DELETE":
                    self.objects.pop(path, None)
                    return self._answer(204)
                case _:
                    return self._batch(request)

    def _allows(self, request: Request, generation: int) -> bool:
        headers = request.headers
        if "X-Goog-If-Generation-Match" in headers:
            return int(headers["X-Goog-If-Generation-Match"]) == generation
        if headers.get("If-None-Match") == "*":
            return not generation
        assert "If-Match" in headers, "no write is unconditional"
        return headers["If-Match"] == f'"{generation}"'

    def _answer(self, status: int, generation: int = 0, data: bytes = b"") -> Response:
        response = Response(data, status)
        if generation:
            response.headers["ETag"] = f'"{generation}"'
            response.headers["x-goog-generation"] = str(generation)
            response.last_modified = 1_700_000_000  # type: ignore[assignment]
        return response

    def _batch(self, request: Request) -> Response:
        """Answer a batch of deletions, which Azure sends as one multipart request."""
        answers = ""
        for number, path in enumerate(
            re.findall(r"DELETE (\S+) HTTP", request.get_data(as_text=True))
        ):
            self.objects.pop(path, None)
            answers += (
                "--batch\r\nContent-Type: application/http\r\n"
                f"Content-ID: {number}\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n"
            )
        return Response(
            f"{answers}--batch--\r\n", 202, content_type="multipart/mixed; boundary=batch"
        )


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def serve() -> Iterator[Blobs]:
    """Serve on a free loopback port."""
    blobs = Blobs()
    server = make_server("127.0.0.1", 0, blobs, threaded=True, request_handler=_Quiet)
    blobs.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield blobs
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
