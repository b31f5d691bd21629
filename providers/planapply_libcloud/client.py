"""Libcloud's driver objects, each used by one thread at a time; failures become ProviderErrors."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import (
    LookupCache,
    describe_malformed,
    expand_home,
    has_control_character,
    rejection,
)
from planapply_libcloud import errors
from planapply_libcloud.drivers import find_driver
from planapply_libcloud.exchanges import ExchangeRecorder
from planapply_libcloud.settings import ENV, KEY_PREFIXES, Settings


class Client:
    """One account of one cloud; sends no request before its first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = LookupCache()
        self.driver = find_driver(settings.driver)
        self.driver_class = _load_driver_class(self.driver.name)
        self._secrets: list[str] = []
        self._construct = self._make_constructor()
        self._idle: list[tuple[Any, ExchangeRecorder]] = []
        self._lock = threading.Lock()
        self._has_answered = False

    @property
    def cloud(self) -> str:
        """Name of the cloud in messages."""
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
        """Return the value with each `env:NAME` replaced by that environment variable, a secret.

        Raise an unauthorized ProviderError if a variable is not set.
        """
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
                f"environment variable {name} is not set",
                f"Set it, then retry: [provider] uses it for {self.cloud}'s credentials.",
            )
        if len(found) >= 4 and found not in self._secrets:
            self._secrets.append(found)
        # A key may have several lines; the drivers send everything else in headers.
        if has_control_character(found) and not found.lstrip().startswith(KEY_PREFIXES):
            raise ProviderError(ErrorKind.UNAUTHORIZED, *describe_malformed([name]))
        return found

    def resolve_text(self, value: Any) -> str:
        """Return an option as text; only for options that are not secret."""
        return str(self.resolve(value))

    @property
    def create_arguments(self) -> dict[str, Any]:
        """Arguments in the spec's `create`, for calls other than a launch.

        Those with environment variables that are not set are left out: only a launch needs them.
        """
        found: dict[str, Any] = {}
        for name, value in self.settings.create.items():
            with suppress(ProviderError):
                found[name] = self.resolve(value)
        return found

    @contextmanager
    def borrow_driver(self, *, writes: bool = False) -> Iterator[Any]:
        """Provide a driver object for one call, and translate its failure to a ProviderError.

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
            # Without its cause: a traceback would print the cause's text as it is.
            raise self._translate_error(error, lib, recorder, writes, is_new) from None
        # A call without a request, such as for an identity, does not show that the cloud answers.
        if recorder.has_answer or not recorder.is_recording:
            self._has_answered = True
        self._return_driver(lib, recorder)

    def make_driver(self, recorder: ExchangeRecorder) -> Any:
        """Return a new driver object; most drivers log in to the cloud for it."""
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
            # The session has expired: the next object logs in again, and decides.
            return ProviderError(
                ErrorKind.UNAVAILABLE, provider_error.summary, provider_error.detail
            )
        if status is not None:
            self._has_answered = True
            self._return_driver(lib, recorder)
        return provider_error


def _resolve_key_file(text: str, setting: str) -> str:
    """Return a key itself, or the path of its file; raise ProviderError if the file does not exist."""
    if text.lstrip().startswith(KEY_PREFIXES):
        return text
    path = Path(expand_home(text))
    if path.is_file():
        return str(path)
    raise ProviderError(
        ErrorKind.UNAUTHORIZED,
        f"environment variable {setting.removeprefix(ENV)} is neither a key nor the path of a key file"
        if setting.startswith(ENV)
        else f"key file {text} does not exist",
        "Correct `secret` under [provider]; a path is relative to the current folder.",
    )


def _load_driver_class(name: str) -> Callable[..., Any]:
    """Return Libcloud's class; raise a rejected ProviderError if it cannot be used."""
    from libcloud.compute.base import NodeDriver
    from libcloud.compute.providers import get_driver

    try:
        found: Any = get_driver(name)
    except Exception as error:  # such as: no longer supported, or a missing SDK
        text = " ".join(str(error).split())
        raise rejection(
            f"cannot use Libcloud's driver {name!r}: {text}",
            "If a package is missing, install it; or choose another `driver` under [provider].",
        ) from error
    if getattr(found, "create_node", None) in (
        None,
        NodeDriver.create_node,
    ) and not _can_create_nodes(found):
        raise rejection(
            f"cannot use Libcloud's driver {name!r}: it cannot create nodes",
            "Choose another `driver` under [provider].",
        )
    return found  # type: ignore[no-any-return]


def _can_create_nodes(found: Any) -> bool:
    """Return whether a subclass can: some drivers choose one by the version of the API."""
    from libcloud.compute.base import NodeDriver

    subclasses = list(found.__subclasses__())
    for subclass in subclasses:
        subclasses += subclass.__subclasses__()
    return any(subclass.create_node is not NodeDriver.create_node for subclass in subclasses)
