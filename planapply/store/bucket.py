"""Buckets of S3, GCS, and Azure: credentials, interruptible calls, and explanations of errors."""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from planapply.background import BackgroundCall
from planapply.credentials import (
    aws_region,
    aws_session_variables,
    describe_malformed,
    find_malformed_variables,
    is_malformed_aws_credential,
)
from planapply.model.secrets import environment_secrets, mask_values
from planapply.store.aws import NO_SETTINGS, AWSSettings
from planapply.store.errors import StateError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")
Bucket = S3Store | GCSStore | AzureStore
GRACE = 4.0
"""Seconds to wait in total; less than an apply waits, so that it learns the result of a write."""

# An offline machine should fail within 20 s, and a slow connection should transfer a large state.
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
    """A bucket that did not answer before the deadline; it may still carry out the request."""


class InterruptibleCaller:
    """Calls of a bucket, each in its own thread, so that the waiting thread can handle signals."""

    _remaining: float | None = None
    """Seconds left to wait after the user asked to stop; None until then."""

    def set_deadline(self) -> None:
        """Wait for at most GRACE seconds from now on, for all calls together."""
        if self._remaining is None:
            self._remaining = GRACE

    def clear_deadline(self) -> None:
        """Wait without a limit again."""
        self._remaining = None

    def call(self, request: Callable[[], T], *, is_write: bool = False) -> T:
        """Return the result of `request`; raise DeadlineExceeded after the deadline, if one is set.

        If a signal raises an exception here, the call continues in its thread. If `is_write`, its
        result is awaited first, with a deadline.
        """
        if self._remaining is not None and self._remaining <= 0:
            raise DeadlineExceeded
        running = BackgroundCall(request, "planapply bucket")
        try:
            running.start()
            return self._wait(running)
        except Exception:
            raise
        except BaseException:
            if is_write:
                self.set_deadline()
                with suppress(Exception):
                    self._wait(running)
            raise

    def _wait(self, running: BackgroundCall[T]) -> T:
        while True:
            started = time.monotonic()
            try:
                if running.wait():
                    return running.result()
            finally:
                if self._remaining is not None:
                    self._remaining -= time.monotonic() - started
            if self._remaining is not None and self._remaining <= 0:
                raise DeadlineExceeded


class BucketProblem(NamedTuple):
    """The reason why a request failed, and what to do."""

    reason: str
    advice: str


def open_bucket(scheme: str, bucket: str, location: str, aws: AWSSettings = NO_SETTINGS) -> Bucket:
    """Open a bucket (in Azure, a container) with the credentials that the cloud's own tools use.

    `aws` is for S3. Raises StateError if there are no credentials, or if they are malformed.
    """
    if names := find_malformed_variables(*_VARIABLES[scheme]):
        raise StateError(*describe_malformed(names))
    client: ClientConfig = {**_CLIENT, "allow_http": _endpoint(scheme).startswith("http://")}
    try:
        match scheme:
            case "s3":
                return _open_s3(bucket, client, aws)
            case "gs":
                return GCSStore(bucket, client_options=client, retry_config=_RETRY)
            case _:
                return AzureStore(bucket, client_options=client, retry_config=_RETRY)
    except StateError:
        raise
    except (
        Exception
    ) as error:  # each cloud's library has its own exceptions for a bad configuration
        raise StateError(
            f"cannot reach the state {location}: no usable credentials",
            f"{_first_line(error)}{_CREDENTIALS[scheme]}",
        ) from None  # a traceback would print the text as it is


def _endpoint(scheme: str) -> str:
    """Return the endpoint that the environment sets in place of the cloud's own, or an empty string.

    Raises StateError for an invalid URL, at which obstore 0.12 panics.
    """
    for name in _ENDPOINTS[scheme]:
        if endpoint := os.environ.get(name):
            if not re.fullmatch(r"https?://[^\s/?#]+(/\S*)?", endpoint):
                raise StateError(
                    f"{name} is not a URL", f"Begin {name} with http:// or https://, or unset it."
                )
            return endpoint
    return ""


def _open_s3(bucket: str, client: "ClientConfig", aws: AWSSettings) -> S3Store:
    import boto3
    import botocore.session
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session(
        botocore_session=botocore.session.Session(session_vars=aws_session_variables()),
        profile_name=aws.profile,
        region_name=aws_region(None),
    )
    provider = Boto3CredentialProvider(session)
    if is_malformed_aws_credential(provider.credentials):
        raise StateError(
            "cannot use the AWS credentials: a line end or control character is in a value",
            f"Correct them in the source that is in use ({provider.credentials.method}).",
        )
    region = session.region_name or aws.region or "us-east-1"
    return S3Store(
        bucket,
        region=region,
        credential_provider=provider,
        client_options=client,
        retry_config=_RETRY,
    )


def explain_error(error: Exception, location: str) -> BucketProblem:
    """Explain an error of obstore to the user, without its text, which may contain secrets."""
    scheme, bucket = location.split("/")[0].rstrip(":"), "/".join(location.split("/")[:3])
    text = str(error).partition("\n\nDebug source")[0]
    if isinstance(error, DeadlineExceeded):
        return BucketProblem(f"no response from {bucket}", "Check the network, and try again.")
    status = _match_group(r"status code: (\d+)", text)
    code = _match_group(r"<Code>(\w+)</Code>", text) or _match_group(r"\(code: (\w+)\)", text)
    status_text = f" ({' '.join(filter(None, (status, code)))})" if status or code else ""
    if isinstance(error, FileNotFoundError):
        return BucketProblem(
            f"{bucket} does not exist{status_text}", "Create it, or choose another one."
        )
    if isinstance(error, UnauthenticatedError) or "token request" in text:
        return BucketProblem(f"no valid credentials{status_text}", _CREDENTIALS[scheme])
    if isinstance(error, PermissionDeniedError) or code in ("AccessDenied", "ExpiredToken"):
        return BucketProblem(
            f"access denied{status_text}",
            "Check which credentials are in use, and that they allow reading, writing, and "
            f"deleting {location} and {location}.lock.",
        )
    if "configured region" in text or code == "AuthorizationHeaderMalformed":
        return BucketProblem(
            f"the bucket is in another region{status_text}",
            "Set AWS_REGION to the bucket's region.",
        )
    if isinstance(error, InvalidPathError | ValueError):
        return BucketProblem("the key is not valid", "Choose another key.")
    if "HTTP error" in text:
        host = _match_group(r"https?://(?:[^/@ ]*@)?([^/ ?]+)", text) or bucket
        return BucketProblem(f"no response from {host}", "Check the network, and try again.")
    if not status:
        return BucketProblem(
            "unexpected response from the storage endpoint", "Check which endpoint is in use."
        )
    is_transient = status.startswith("5") or status in ("409", "412", "429")
    return BucketProblem(
        f"the storage endpoint responded {status_text.strip(' ()')}",
        "Try again later."
        if is_transient
        else "Check the name of the bucket, and which endpoint is in use.",
    )


def is_missing_bucket(error: FileNotFoundError) -> bool:
    """Return whether the bucket does not exist, rather than the object."""
    return bool(re.search(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>", str(error)))


def had_no_effect(error: Exception) -> bool:
    """Return whether a request certainly changed nothing: it was not sent, or it was refused."""
    return "kind: Connect" in str(error) or isinstance(
        error, PermissionDeniedError | UnauthenticatedError
    )


def _first_line(error: Exception) -> str:
    line = mask_values(str(error).partition("\n")[0], environment_secrets(os.environ))
    # If boto3 found no credentials, the error of obstore's provider is about its own code.
    return "" if "get_credentials" in line else f"{line}\n"


def _match_group(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


_VARIABLES = {
    "s3": ("AWS_",),
    "gs": ("GOOGLE_",),
    "az": ("AZURE_", "MSI_", "IDENTITY_"),
}
"""Beginnings of the names of the variables that obstore and boto3 read."""

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

_CREDENTIALS = {
    "s3": "Log in as for the AWS command line: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or run `aws sso login`.",
    "gs": "Log in as for Google's libraries: set GOOGLE_APPLICATION_CREDENTIALS, or run "
    "`gcloud auth application-default login`.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID, "
    "AZURE_CLIENT_SECRET and AZURE_TENANT_ID.",
}
