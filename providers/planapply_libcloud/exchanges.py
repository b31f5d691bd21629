"""Record of a driver's requests and responses, which shows what a failed call may have changed.

Libcloud's drivers send several requests in one call, and many drop the status of a response.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from planapply.providerkit import is_web_page

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOGIN_URL = re.compile(r"/tokens?(\?|$)|/oauth2?/")


@dataclass
class Exchange:
    """One request; `status` is None without a response."""

    method: str
    url: str = ""
    status: int | None = None
    content_type: str = ""
    text: str = ""

    @property
    def is_html(self) -> bool:
        """Whether the response is a web page: not from the cloud's API."""
        return is_web_page(self.content_type)


@dataclass
class ExchangeRecorder:
    """Exchanges of one driver object since `clear`; used by one thread at a time."""

    has_writes_by_get: bool = False
    exchanges: list[Exchange] = field(default_factory=list)
    is_recording: bool = False

    def clear(self) -> None:
        """Drop the recorded exchanges."""
        self.exchanges = []

    def attach(self, lib: Any) -> None:
        """Record all that this driver's connections send from now on."""
        from libcloud.common.base import Connection

        for connection in [c for c in vars(lib).values() if isinstance(c, Connection)]:
            self._attach(connection)

    def _attach(self, connection: Any) -> None:
        make, current = connection.conn_class, connection.connection
        connection.conn_class = lambda *args, **kwargs: self._record(make(*args, **kwargs))
        if current is not None:
            self._record(current)
            self.is_recording = True

    def _record(self, connection: Any) -> Any:
        send: Callable[..., Any] = connection.request

        def request(method: str, url: str, *args: Any, **kwargs: Any) -> None:
            exchange = Exchange(method.upper(), url)
            self.exchanges.append(exchange)
            send(method, url, *args, **kwargs)
            response = connection.response
            exchange.status = response.status_code
            exchange.content_type = response.headers.get("content-type", "")
            exchange.text = response.text if response.status_code >= 400 else ""

        connection.request = request
        return connection

    def is_write(self, exchange: Exchange) -> bool:
        """Return whether the request may have changed something."""
        if LOGIN_URL.search(exchange.url):
            return False
        return self.has_writes_by_get or exchange.method not in READ_METHODS

    @property
    def has_changed(self) -> bool:
        """Whether the cloud reported success for a write."""
        return any(
            self.is_write(e) and e.status is not None and e.status < 400 for e in self.exchanges
        )

    @property
    def has_answer(self) -> bool:
        """Whether there was any response."""
        return any(e.status is not None for e in self.exchanges)

    @property
    def last(self) -> Exchange | None:
        """The latest exchange."""
        return self.exchanges[-1] if self.exchanges else None
