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
        self._reached = False
        self._memory: dict[str, Any] = {}
        self._region = region or ""
        with self._translated():
            self._session = boto3.Session(profile_name=profile, region_name=region)
        self._region = self._session.region_name or ""

    @property
    def region(self) -> str:
        """Its name; raises ProviderError where none is set."""
        return self.ec2.meta.region_name

    @cached_property
    def ec2(self) -> "EC2Client":
        """For use within `asking`."""
        return self._client("ec2")  # type: ignore[no-any-return]

    @cached_property
    def sts(self) -> Any:
        """For use within `asking`."""
        return self._client("sts")

    @cached_property
    def ssm(self) -> Any:
        """For use within `asking`."""
        return self._client("ssm")

    def _client(self, service: str) -> Any:
        make: Callable[..., Any] = self._session.client
        with self._lock, self._translated():  # a session is not for many threads
            client = make(service, config=CONFIG)
        # A page that happens to be XML would pass for an answer in which nothing is.
        client.meta.events.register("after-call", errors.refuse_page)
        return client

    @contextmanager
    def asking(self, *, writes: bool = False) -> Iterator[None]:
        """Around a call: its failure becomes a ProviderError; `writes`: it may change something."""
        with self._translated(writes=writes):
            yield
        self._reached = True

    @contextmanager
    def _translated(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            self._reached = True
            raise errors.of_answer(error, writes=writes) from error
        except BotoCoreError as error:
            raise errors.of_sdk(
                error, writes=writes, reached=self._reached, region=self._region
            ) from error
        except ResponseParserError as error:
            raise errors.of_page(str(error), writes=writes, region=self._region) from error

    def remember(self, what: str, ask: Callable[[], T]) -> T:
        """What `ask` gave the first time in this process, for facts that don't move in an apply."""
        with self._lock:
            if what not in self._memory:
                self._memory[what] = ask()
            value: T = self._memory[what]
            return value

    def identity(self) -> dict[str, str]:
        """The account and region that all of this is about."""
        with self.asking():
            account = str(self.sts.get_caller_identity()["Account"])
        return {"account": account, "region": self.region}
