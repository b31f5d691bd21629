"""AWS clients, created on first use; failures become ProviderErrors, and nothing is retried."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from planapply.providerkit import LookupCache
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


class Client:
    """One account and region: from a profile and region, or from AWS's usual sources."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        self.cache = LookupCache()
        self._lock = threading.Lock()
        self._has_answered = False
        self._region = region or ""
        with self._translate_sdk_errors():
            self._session = boto3.Session(profile_name=profile, region_name=region)
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
            client = make_client(service, config=CONFIG)
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
            raise errors.from_client_error(error, writes=writes) from error
        except BotoCoreError as error:
            raise errors.from_sdk_error(
                error, writes=writes, has_answered=self._has_answered, region=self._region
            ) from error
        except ResponseParserError as error:
            raise errors.from_web_page(str(error), writes=writes, region=self._region) from error

    def identity(self) -> dict[str, str]:
        """Return the account and region."""
        with self.translate_errors():
            account = str(self.sts.get_caller_identity()["Account"])
        return {"account": account, "region": self.region}
