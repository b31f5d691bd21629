"""Opening a bucket of S3, GCS or Azure, asking it, and saying what went wrong with one."""

import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from planapply.store.errors import StateError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")
Bucket = S3Store | GCSStore | AzureStore
GRACE = 4.0
"""Seconds; less than an apply's, which so hears what became of a write."""
_POLL_INTERVAL = 0.1

# An offline machine should hear of it in 20 s, and a large state still go through a thin line.
_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=20),
}
_RETRY: "RetryConfig" = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=12),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}


class DeadlineExceeded(Exception):
    """The user wants to stop, and the bucket has not answered in time; it may still act."""


class InterruptibleCaller:
    """Calls of a bucket in threads of their own, so that whoever waits for one hears signals."""

    _remaining: float | None = None
    """Seconds that may still be waited, once the user wants to stop."""

    def set_deadline(self) -> None:
        """From now on wait for GRACE seconds at most, for all calls together."""
        if self._remaining is None:
            self._remaining = GRACE

    def clear_deadline(self) -> None:
        """Wait as long as it takes again."""
        self._remaining = None

    def call(self, request: Callable[[], T], *, is_write: bool = False) -> T:
        """What `request` gives; raises DeadlineExceeded where we are in a hurry.

        A signal that comes as an exception leaves the call alone, but for one with `is_write`
        something: what becomes of that is awaited, in a hurry.
        """
        if self._remaining is not None and self._remaining <= 0:
            raise DeadlineExceeded
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(request())
            except BaseException as error:
                outcome.set_exception(error)

        try:
            threading.Thread(target=run, name="planapply bucket", daemon=True).start()
            return self._wait(outcome)
        except Exception:
            raise
        except BaseException:
            if is_write:
                self.set_deadline()
                with suppress(Exception):
                    self._wait(outcome)
            raise

    def _wait(self, outcome: Future[T]) -> T:
        while True:
            started = time.monotonic()
            try:
                return outcome.result(_POLL_INTERVAL)
            except FutureTimeout:
                if outcome.done():
                    return outcome.result()
            finally:
                if self._remaining is not None:
                    self._remaining -= time.monotonic() - started
            if self._remaining is not None and self._remaining <= 0:
                raise DeadlineExceeded


class BucketProblem(NamedTuple):
    """What is wrong with a bucket, and what to do."""

    reason: str
    advice: str


def open_bucket(scheme: str, bucket: str, location: str) -> Bucket:
    """The bucket (an Azure container), with the credentials that its cloud's own tools would use.

    Raises StateError if there are none.
    """
    client: ClientConfig = {**_CLIENT, "allow_http": _endpoint(scheme).startswith("http://")}
    try:
        match scheme:
            case "s3":
                return _open_s3(bucket, client)
            case "gs":
                return GCSStore(bucket, client_options=client, retry_config=_RETRY)
            case _:
                return AzureStore(bucket, client_options=client, retry_config=_RETRY)
    except Exception as error:  # Each cloud's library has its own kinds for a wrong configuration.
        raise StateError(
            f"the state {location} can't be reached: no usable credentials",
            f"{_first_line(error)}{_CREDENTIALS[scheme]}",
        ) from error


def _endpoint(scheme: str) -> str:
    """The address that the environment names in place of the cloud's own, or nothing.

    Checked here, since obstore 0.12 panics at one that is no address.
    """
    for name in _ENDPOINTS[scheme]:
        if endpoint := os.environ.get(name):
            if not re.fullmatch(r"https?://[^\s/?#]+(/\S*)?", endpoint):
                raise StateError(f"{name} is no address", "It must begin with http:// or https://.")
            return endpoint
    return ""


def _open_s3(bucket: str, client: "ClientConfig") -> S3Store:
    from obstore.auth.boto3 import Boto3CredentialProvider

    provider = Boto3CredentialProvider()
    region = os.environ.get("AWS_REGION") or provider.config.get("region") or "us-east-1"
    return S3Store(
        bucket,
        region=region,
        credential_provider=provider,
        client_options=client,
        retry_config=_RETRY,
    )


def explain_error(error: Exception, location: str) -> BucketProblem:
    """What an error of obstore means to a person; its own text may hold secrets."""
    scheme, bucket = location.split("/")[0].rstrip(":"), "/".join(location.split("/")[:3])
    text = str(error).partition("\n\nDebug source")[0]
    if isinstance(error, DeadlineExceeded):
        return BucketProblem(f"{bucket} has not answered", "Check the network, and try again.")
    status = _match_group(r"status code: (\d+)", text)
    code = _match_group(r"<Code>(\w+)</Code>", text) or _match_group(r"\(code: (\w+)\)", text)
    status_text = f" ({' '.join(filter(None, (status, code)))})" if status or code else ""
    if isinstance(error, FileNotFoundError):
        return BucketProblem(
            f"{bucket} does not exist{status_text}", "Make it, or name another one."
        )
    if isinstance(error, UnauthenticatedError) or "token request" in text:
        return BucketProblem(f"no valid credentials{status_text}", _CREDENTIALS[scheme])
    if isinstance(error, PermissionDeniedError) or code in ("AccessDenied", "ExpiredToken"):
        return BucketProblem(
            f"access is denied{status_text}",
            "Check whose credentials are in use, and that they may read, write and delete "
            f"{location} and {location}.lock.",
        )
    if "configured region" in text or code == "AuthorizationHeaderMalformed":
        return BucketProblem(
            f"the bucket is in another region{status_text}", "Set AWS_REGION to the bucket's."
        )
    if isinstance(error, InvalidPathError | ValueError):
        return BucketProblem("the key is not valid", "Name another one.")
    if "HTTP error" in text:
        host = _match_group(r"https?://(?:[^/@ ]*@)?([^/ ?]+)", text) or bucket
        return BucketProblem(f"no answer from {host}", "Check the network, and try again.")
    if not status:
        return BucketProblem(
            "it answers what no bucket would", "Check the endpoint that is in use."
        )
    is_transient = status.startswith("5") or status in ("409", "412", "429")
    return BucketProblem(
        f"the bucket answers {status_text.strip(' ()')}",
        "Try again in a while."
        if is_transient
        else "Check its name and the endpoint that is in use.",
    )


def is_missing_bucket(error: FileNotFoundError) -> bool:
    """Whether it is the bucket that a read did not find, rather than the object."""
    return bool(re.search(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>", str(error)))


def had_no_effect(error: Exception) -> bool:
    """Whether a request surely changed nothing, since no connection was made or it was refused."""
    return "kind: Connect" in str(error) or isinstance(
        error, PermissionDeniedError | UnauthenticatedError
    )


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    # obstore's provider speaks of its own code where boto3 found nothing.
    return "" if "get_credentials" in line else f"{line}\n"


def _match_group(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_CREDENTIALS = {
    "s3": "Log in as for the AWS command line: AWS_PROFILE, AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or `aws sso login`.",
    "gs": "Log in as for Google's libraries: GOOGLE_APPLICATION_CREDENTIALS, or "
    "`gcloud auth application-default login`.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID, "
    "AZURE_CLIENT_SECRET and AZURE_TENANT_ID.",
}
