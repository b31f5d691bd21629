"""What a driver has sent and what came back: the only way to tell what a failure has left behind.

Libcloud's drivers send several requests in one call, and many drop the status of an answer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

READS = frozenset({"GET", "HEAD", "OPTIONS"})
LOG_IN = re.compile(r"/tokens?(\?|$)|/oauth2?/")


@dataclass
class Exchange:
    """One request; `status` is None while, or where, no answer came."""

    method: str
    url: str = ""
    status: int | None = None
    content_type: str = ""
    text: str = ""

    @property
    def is_html(self) -> bool:
        """Whether something else than the cloud's API has answered, or its front end."""
        return "html" in self.content_type.lower()


@dataclass
class Wire:
    """The exchanges of one driver object since `begin`; one thread at a time uses it."""

    get_writes: bool = False
    exchanges: list[Exchange] = field(default_factory=list)
    watched: bool = False

    def begin(self) -> None:
        """Forget what was."""
        self.exchanges = []

    def attach(self, lib: Any) -> None:
        """See all that this driver's connections send from now on."""
        from libcloud.common.base import Connection

        for connection in [c for c in vars(lib).values() if isinstance(c, Connection)]:
            self._attach(connection)

    def _attach(self, connection: Any) -> None:
        make, made = connection.conn_class, connection.connection
        connection.conn_class = lambda *args, **kwargs: self._watch(make(*args, **kwargs))
        if made is not None:
            self._watch(made)
            self.watched = True

    def _watch(self, connection: Any) -> Any:
        send: Callable[..., Any] = connection.request

        def request(method: str, url: str, *args: Any, **kwargs: Any) -> None:
            exchange = Exchange(method.upper(), url)
            self.exchanges.append(exchange)
            send(method, url, *args, **kwargs)
            answer = connection.response
            exchange.status = answer.status_code
            exchange.content_type = answer.headers.get("content-type", "")
            exchange.text = answer.text if answer.status_code >= 400 else ""

        connection.request = request
        return connection

    def is_write(self, exchange: Exchange) -> bool:
        """Whether it may have changed something."""
        if LOG_IN.search(exchange.url):
            return False
        return self.get_writes or exchange.method not in READS

    @property
    def changed(self) -> bool:
        """Whether a write was answered as done."""
        return any(
            self.is_write(e) and e.status is not None and e.status < 400 for e in self.exchanges
        )

    @property
    def answered(self) -> bool:
        """Whether anything was."""
        return any(e.status is not None for e in self.exchanges)

    @property
    def last(self) -> Exchange | None:
        """The latest."""
        return self.exchanges[-1] if self.exchanges else None
