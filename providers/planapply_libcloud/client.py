"""Libcloud's driver objects, of which one thread at a time uses one, and their failures."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from planapply.provider import ErrorKind, ProviderError
from planapply_libcloud import errors
from planapply_libcloud.drivers import find_driver
from planapply_libcloud.settings import ENV, KEY_PREFIXES, Settings
from planapply_libcloud.exchanges import ExchangeRecorder

T = TypeVar("T")


class Client:
    """One account of one cloud; asks nothing of it before it is used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.driver = find_driver(settings.driver)
        self.driver_class = _load_driver_class(self.driver.name)
        self._secrets: list[str] = []
        self._construct = self._make_constructor()
        self._idle: list[tuple[Any, ExchangeRecorder]] = []
        self._lock = threading.RLock()
        self._cache: dict[str, Any] = {}
        self._has_answered = False

    @property
    def cloud(self) -> str:
        """As people call it."""
        return self.driver.title or self.driver.name

    def _make_constructor(self) -> Callable[[], Any]:
        settings, driver = self.settings, self.driver
        options = {**driver.options, **self.resolve(settings.options)}
        credentials = [self.resolve(value) for value in (settings.key, settings.secret)]
        if driver.has_secret_file and settings.secret:
            credentials[1] = _resolve_key_file(str(credentials[1]), settings.secret)
        if driver.key_names:
            keywords = dict(zip(driver.key_names, credentials, strict=True))
            return lambda: self.driver_class(
                **{k: v for k, v in keywords.items() if v is not None}, **options
            )
        return lambda: self.driver_class(
            *[value for value in credentials if value is not None], **options
        )

    def resolve(self, value: Any) -> Any:
        """With what the environment has in place of `env:NAME`, which is never shown; raises an
        unauthorized ProviderError for a variable that is not set."""
        if isinstance(value, Mapping):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolve(item) for item in value]
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

    def resolve_text(self, value: Any) -> str:
        """An option as it is sent, for one that is no secret."""
        return str(self.resolve(value))

    @property
    def create_arguments(self) -> dict[str, Any]:
        """The spec's, for all but a launch: the end of a cluster needs no variable that is only for
        its beginning."""
        found: dict[str, Any] = {}
        for name, value in self.settings.create.items():
            with suppress(ProviderError):
                found[name] = self.resolve(value)
        return found

    @contextmanager
    def borrow_driver(self, *, writes: bool = False) -> Iterator[Any]:
        """A driver object for one call; its failure becomes a ProviderError.

        `writes`: the call may change something.
        """
        with self._lock:
            lib, recorder = (
                self._idle.pop()
                if self._idle
                else (None, ExchangeRecorder(self.driver.has_writes_by_get))
            )
        is_new = lib is None
        recorder.clear()
        try:
            if lib is None:
                lib = self.make_driver(recorder)
            yield lib
        except ProviderError:
            self._return_driver(lib, recorder)
            raise
        except Exception as error:
            raise self._translate_error(error, lib, recorder, writes, is_new) from error
        # A call that needs no request, such as for an identity, says nothing of the cloud.
        if recorder.has_answer or not recorder.is_recording:
            self._has_answered = True
        self._return_driver(lib, recorder)

    def make_driver(self, recorder: ExchangeRecorder) -> Any:
        """A new one; most log in by that."""
        lib = self._construct()
        recorder.attach(lib)
        self.driver.patch_driver(lib)
        return lib

    def _return_driver(self, lib: Any, recorder: ExchangeRecorder) -> None:
        if lib is not None:
            with self._lock:
                self._idle.append((lib, recorder))

    def _translate_error(
        self, error: Exception, lib: Any, recorder: ExchangeRecorder, writes: bool, is_new: bool
    ) -> ProviderError:
        provider_error = errors.translate(
            error,
            recorder,
            writes=writes and lib is not None,
            has_answered=self._has_answered,
            cloud=self.cloud,
            error_kinds=self.driver.error_kinds,
            secrets=self._secrets,
        )
        status = recorder.last.status if recorder.last else None
        if status == 401 and self.driver.has_sessions and not is_new:
            # Its session has ended: the next object logs in anew, and that one's word counts.
            return ProviderError(
                ErrorKind.UNAVAILABLE, provider_error.summary, provider_error.detail
            )
        if status is not None:
            self._has_answered = True
            self._return_driver(lib, recorder)
        return provider_error

    def get_cached(self, key: str, compute: Callable[[], T]) -> T:
        """What `compute` gave the first time in this process, for facts that don't move in an apply."""
        with self._lock:
            if key not in self._cache:
                self._cache[key] = compute()
            value: T = self._cache[key]
            return value


def _resolve_key_file(text: str, setting: str) -> str:
    """A key, or the path of its file; raises ProviderError where there is no such file."""
    if text.lstrip().startswith(KEY_PREFIXES):
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


def _load_driver_class(name: str) -> Callable[..., Any]:
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
    if getattr(found, "create_node", None) in (
        None,
        NodeDriver.create_node,
    ) and not _can_create_nodes(found):
        raise ProviderError(
            ErrorKind.REJECTED,
            f"Libcloud's driver {name!r} can't create nodes",
            "It only shows and ends what others have made; choose another `driver`.",
        )
    return found  # type: ignore[no-any-return]


def _can_create_nodes(found: Any) -> bool:
    """Some hand out another class, by the version of the API, that can."""
    from libcloud.compute.base import NodeDriver

    subclasses = list(found.__subclasses__())
    for subclass in subclasses:
        subclasses += subclass.__subclasses__()
    return any(subclass.create_node is not NodeDriver.create_node for subclass in subclasses)
