"""AWS's clients, made when first needed; each call once, its failures in the port's classes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from planapply_ec2 import errors

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

T = TypeVar("T")

# The fleet retries, and knows what a lost answer means: botocore's own retries would hide it.
CONFIG = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    connect_timeout=10,
    read_timeout=60,  # RunInstances of 100 VMs takes seconds
    max_pool_connections=10,
    user_agent_extra="planapply",
)


class Client:
    """One account and region, from a profile, a region, or what AWS's usual places say."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        self._lock = threading.RLock()
        self._has_answered = False
        self._cache: dict[str, Any] = {}
        self._region = region or ""
        with self._translate_sdk_errors():
            self._session = boto3.Session(profile_name=profile, region_name=region)
        self._region = self._session.region_name or ""

    @property
    def region(self) -> str:
        """Its name; raises ProviderError where none is set."""
        return self.ec2.meta.region_name

    @cached_property
    def ec2(self) -> "EC2Client":
        """For use within `translate_errors`."""
        return self._make_client("ec2")  # type: ignore[no-any-return]

    @cached_property
    def sts(self) -> Any:
        """For use within `translate_errors`."""
        return self._make_client("sts")

    @cached_property
    def ssm(self) -> Any:
        """For use within `translate_errors`."""
        return self._make_client("ssm")

    def _make_client(self, service: str) -> Any:
        make_client: Callable[..., Any] = self._session.client
        with self._lock, self._translate_sdk_errors():  # a session is not for many threads
            client = make_client(service, config=CONFIG)
        # A page that happens to be XML would pass for an answer in which nothing is.
        client.meta.events.register("after-call", errors.reject_web_page)
        return client

    @contextmanager
    def translate_errors(self, *, writes: bool = False) -> Iterator[None]:
        """Around a call: its failure becomes a ProviderError; `writes`: it may change something."""
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

    def get_cached(self, key: str, compute: Callable[[], T]) -> T:
        """What `compute` gave the first time in this process, for facts that don't move in an apply."""
        with self._lock:
            if key not in self._cache:
                self._cache[key] = compute()
            value: T = self._cache[key]
            return value

    def identity(self) -> dict[str, str]:
        """The account and region that all of this is about."""
        with self.translate_errors():
            account = str(self.sts.get_caller_identity()["Account"])
        return {"account": account, "region": self.region}
