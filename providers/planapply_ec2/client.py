"""AWS clients, created on first use; failures become ProviderErrors, and nothing is retried."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import (
    LookupCache,
    aws_region,
    aws_session_variables,
    describe_malformed,
    environment_secrets,
    find_malformed_variables,
    is_malformed_aws_credential,
    rejection,
)
from planapply_ec2 import errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# The fleet retries, and handles lost responses: botocore's own retries would hide them.
CONFIG = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    connect_timeout=10,
    read_timeout=60,  # RunInstances of 100 VMs takes seconds
    max_pool_connections=10,
    user_agent_extra="planapply",
)


def make_session(profile: str | None, region: str | None) -> boto3.Session:
    """Return a session; without `profile` and `region`, those of AWS's usual sources."""
    session = botocore.session.Session(session_vars=aws_session_variables())
    return boto3.Session(
        botocore_session=session, profile_name=profile, region_name=aws_region(region)
    )


class Client:
    """One account and region: from a profile and region, or from AWS's usual sources."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        if names := find_malformed_variables("AWS_"):
            raise ProviderError(ErrorKind.UNAUTHORIZED, *describe_malformed(names))
        self.cache = LookupCache()
        self._lock = threading.Lock()
        self._has_answered = False
        self._region = region or ""
        with self._translate_sdk_errors():
            self._session = make_session(profile, region)
        self._region = self._session.region_name or ""

    @property
    def region(self) -> str:
        """Name of the region; raises ProviderError if none is set."""
        return self.ec2.meta.region_name

    @cached_property
    def ec2(self) -> "EC2Client":
        """Client for use within `translate_errors`."""
        return self._make_client("ec2")  # type: ignore[no-any-return]

    @cached_property
    def sts(self) -> Any:
        """Client for use within `translate_errors`."""
        return self._make_client("sts")

    @cached_property
    def ssm(self) -> Any:
        """Client for use within `translate_errors`."""
        return self._make_client("ssm")

    def _make_client(self, service: str) -> Any:
        make_client: Callable[..., Any] = self._session.client
        with self._lock, self._translate_sdk_errors():  # a session is not thread-safe
            try:
                credentials = self._session.get_credentials()
                client = make_client(service, config=CONFIG)
            except BotoCoreError:
                raise
            except (OSError, ValueError) as error:  # such as a relative AWS_ENDPOINT_URL
                raise rejection(
                    f"cannot use the AWS configuration: {error}",
                    "Correct AWS_ENDPOINT_URL and your AWS configuration files.",
                ) from error
        if credentials is not None and is_malformed_aws_credential(credentials):
            raise ProviderError(
                ErrorKind.UNAUTHORIZED,
                "cannot use the AWS credentials: a line end or control character is in a value",
                f"Correct them in the source that is in use ({credentials.method}).",
            )
        # Otherwise a web page that happens to be XML would pass for an empty response.
        client.meta.events.register("after-call", errors.reject_web_page)
        return client

    @contextmanager
    def translate_errors(self, *, writes: bool = False) -> Iterator[None]:
        """Translate the failure of a call to a ProviderError; `writes`: it may change something."""
        with self._translate_sdk_errors(writes=writes):
            yield
        self._has_answered = True

    @contextmanager
    def _translate_sdk_errors(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            self._has_answered = True
            raise self._without_secrets(errors.from_client_error(error, writes=writes)) from None
        except BotoCoreError as error:
            translated = errors.from_sdk_error(
                error, writes=writes, has_answered=self._has_answered, region=self._region
            )
            raise self._without_secrets(translated) from None
        except ResponseParserError as error:
            translated = errors.from_web_page(str(error), writes=writes, region=self._region)
            raise self._without_secrets(translated) from None
        except ProviderError as error:
            raise self._without_secrets(error) from None
        except Exception as error:
            # A document that is none of this service's: botocore cannot read it, or finds nothing in it.
            if not (isinstance(error, LookupError) or errors.is_from_parser(error)):
                raise
            translated = errors.from_web_page("", writes=writes, region=self._region)
            raise self._without_secrets(translated) from None

    def _without_secrets(self, error: ProviderError) -> ProviderError:
        """Return the error without the secrets in use, which boto3 may have quoted.

        It has no cause: a traceback would print the cause's text as it is.
        """
        secrets = environment_secrets(os.environ)
        # Only those already found: looking for them may send a request.
        session = getattr(self, "_session", None)
        found: Any = getattr(getattr(session, "_session", None), "_credentials", None)
        if type(found).__name__ == "Credentials":
            secrets |= {value for value in (found.secret_key, found.token) if value}
        return error.mask(secrets)

    def identity(self) -> dict[str, str]:
        """Return the account and region."""
        with self.translate_errors():
            account = str(self.sts.get_caller_identity()["Account"])
        return {"account": account, "region": self.region}
