"""Libcloud's driver objects, of which one thread at a time uses one, and their failures."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud import errors
from planapply_libcloud.drivers import driver_of
from planapply_libcloud.settings import ENV, KEY_TEXT, Settings
from planapply_libcloud.wire import Wire

T = TypeVar("T")


class Client:
    """One account of one cloud; asks nothing of it before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.driver = driver_of(settings.driver)
        self.make = _class_of(self.driver.name)
        self._secrets: list[str] = []
        self._arguments = self._constructor()
        self._idle: list[tuple[Any, Wire]] = []
        self._lock = threading.RLock()
        self._memory: dict[str, Any] = {}
        self._reached = False

    @property
    def cloud(self) -> str:
        """As people call it."""
        return self.driver.title or self.driver.name

    def _constructor(self) -> Callable[[], Any]:
        settings, driver = self.settings, self.driver
        options = {**driver.options, **self.resolved(settings.options)}
        given = [self.resolved(value) for value in (settings.key, settings.secret)]
        if driver.secret_file and settings.secret:
            given[1] = _key(str(given[1]), settings.secret)
        if driver.key_names:
            named = dict(zip(driver.key_names, given, strict=True))
            return lambda: self.make(**{k: v for k, v in named.items() if v is not None}, **options)
        return lambda: self.make(*[value for value in given if value is not None], **options)

    def resolved(self, value: Any) -> Any:
        """With what the environment has in place of `env:NAME`, which is never shown; raises an
        unauthorized ProviderError for a variable that is not set."""
        if isinstance(value, Mapping):
            return {key: self.resolved(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolved(item) for item in value]
        if not (isinstance(value, str) and value.startswith(ENV)):
            return value
        name = value.removeprefix(ENV)
        found = os.environ.get(name)
        if not found:
            raise ProviderError(
                ErrorKind.UNAUTHORIZED,
                f"the environment variable {name} is not set",
                f"[provider] names it for {self.cloud}'s credentials: set it, and repeat this.",
            )
        if len(found) >= 4 and found not in self._secrets:
            self._secrets.append(found)
        return found

    def plain(self, value: Any) -> str:
        """An option as it is sent, for one that is no secret."""
        return str(self.resolved(value))

    @property
    def create(self) -> dict[str, Any]:
        """The spec's, for all but a launch: the end of a cluster needs no variable that is only for
        its beginning."""
        found: dict[str, Any] = {}
        for name, value in self.settings.create.items():
            with suppress(ProviderError):
                found[name] = self.resolved(value)
        return found

    @contextmanager
    def asking(self, *, writes: bool = False) -> Iterator[Any]:
        """A driver object for one call; its failure becomes a ProviderError.

        `writes`: the call may change something.
        """
        with self._lock:
            lib, wire = self._idle.pop() if self._idle else (None, Wire(self.driver.get_writes))
        fresh = lib is None
        wire.begin()
        try:
            if lib is None:
                lib = self.make_driver(wire)
            yield lib
        except ProviderError:
            self._put_back(lib, wire)
            raise
        except Exception as error:
            raise self._understood(error, lib, wire, writes, fresh) from error
        # A call that needs no request, such as for an identity, says nothing of the cloud.
        if wire.answered or not wire.watched:
            self._reached = True
        self._put_back(lib, wire)

    def make_driver(self, wire: Wire) -> Any:
        """A new one; most log in by that."""
        lib = self._arguments()
        wire.attach(lib)
        self.driver.fit(lib)
        return lib

    def _put_back(self, lib: Any, wire: Wire) -> None:
        if lib is not None:
            with self._lock:
                self._idle.append((lib, wire))

    def _understood(
        self, error: Exception, lib: Any, wire: Wire, writes: bool, fresh: bool
    ) -> ProviderError:
        told = errors.understand(
            error,
            wire,
            writes=writes and lib is not None,
            reached=self._reached,
            cloud=self.cloud,
            definite=self.driver.definite,
            secrets=self._secrets,
        )
        status = wire.last.status if wire.last else None
        if status == 401 and self.driver.has_sessions and not fresh:
            # Its session has ended: the next object logs in anew, and that one's word counts.
            return ProviderError(ErrorKind.UNAVAILABLE, told.summary, told.detail)
        if status is not None:
            self._reached = True
            self._put_back(lib, wire)
        return told

    def remember(self, what: str, ask: Callable[[], T]) -> T:
        """What `ask` gave the first time in this process, for facts that don't move in an apply."""
        with self._lock:
            if what not in self._memory:
                self._memory[what] = ask()
            value: T = self._memory[what]
            return value


def _key(text: str, setting: str) -> str:
    """A key, or the path of its file; raises ProviderError where there is no such file."""
    if text.lstrip().startswith(KEY_TEXT):
        return text
    path = Path(text).expanduser()
    if path.is_file():
        return str(path)
    raise ProviderError(
        ErrorKind.UNAUTHORIZED,
        f"{setting.removeprefix(ENV)} in the environment is no key, and no path of a file with one"
        if setting.startswith(ENV)
        else f"the key file {text} is not there",
        "`secret` under [provider] names it; a path is relative to the current folder.",
    )


def _class_of(name: str) -> Callable[..., Any]:
    """Libcloud's class; raises ProviderError where there is none to use."""
    from libcloud.compute.base import NodeDriver
    from libcloud.compute.providers import get_driver

    try:
        found: Any = get_driver(name)
    except Exception as error:  # some say so when asked for: no longer supported, or a missing SDK
        text = " ".join(str(error).split())
        raise ProviderError(
            ErrorKind.REJECTED,
            f"Libcloud's driver {name!r} can't be used: {text}",
            "If a package is missing, install it; `driver` under [provider] names another one.",
        ) from error
    if getattr(found, "create_node", None) in (None, NodeDriver.create_node) and not _makes(found):
        raise ProviderError(
            ErrorKind.REJECTED,
            f"Libcloud's driver {name!r} can't create nodes",
            "It only shows and ends what others have made; choose another `driver`.",
        )
    return found  # type: ignore[no-any-return]


def _makes(found: Any) -> bool:
    """Some hand out another class, by the version of the API, that can."""
    from libcloud.compute.base import NodeDriver

    todo = list(found.__subclasses__())
    for each in todo:
        todo += each.__subclasses__()
    return any(each.create_node is not NodeDriver.create_node for each in todo)
