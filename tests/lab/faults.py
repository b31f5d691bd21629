"""Faults and request limits of the lab, and the clock of both."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass
class Fault:
    """Fault of calls of `action`, counted from when it was set.

    Without `error`, `page`, and `lost` it only delays or holds calls.
    """

    action: str
    """`RunInstances`, `s3:PutObject`, `ssm:GetParameter`, …; `*` and `?` match as in file names."""
    error: str = ""
    """AWS's error code: the response has it, and the call has no effect."""
    status: int = 400
    message: str = "set by the lab"
    page: str = ""
    """A web page, the response of a proxy in place of AWS's, with `status`; the call has an effect only
    if `lost` is `after`."""
    delay: float = 0.0
    """Seconds by which the call is delayed."""
    held: threading.Event | None = None
    """Event until which the call is delayed; in the cloud's own process only."""
    lost: Literal["", "before", "after"] = ""
    """Drop the connection: before the call has an effect, or after it."""
    at: int = 1
    """Number of the first matching call that is affected, from 1."""
    times: int | None = 1
    """Number of affected calls; None: all later ones."""
    chance: float = 1.0
    """Probability for each of those calls, from the lab's seeded random numbers."""
    seen: int = 0
    hits: int = 0


class Faults:
    """Faults that are set; the first that matches a call affects it."""

    def __init__(self, seed: int = 0) -> None:
        self.active: list[Fault] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def match(self, action: str) -> Fault | None:
        """Return the fault that affects this call of `action`."""
        matched = None
        with self._lock:
            for fault in self.active:
                if not fnmatchcase(action, fault.action):
                    continue
                fault.seen += 1
                is_used_up = fault.times is not None and fault.hits >= fault.times
                if matched or is_used_up or fault.seen < fault.at:
                    continue
                if fault.chance >= 1 or self._random.random() < fault.chance:
                    fault.hits += 1
                    matched = fault
        return matched


class Clock:
    """Clock in seconds, which a test can freeze and advance."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._frozen: float | None = None

    def __call__(self) -> float:
        return (time.monotonic() if self._frozen is None else self._frozen) + self._offset

    def freeze(self) -> None:
        """Stop the clock: only `advance` moves it."""
        self._frozen = time.monotonic()

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._offset += seconds


@dataclass
class TokenBucket:
    """Token bucket as EC2 documents it."""

    size: float
    rate: float
    level: float
    since: float

    def take(self, tokens: float, now: float) -> bool:
        """Take that many tokens; return False if there are fewer."""
        self.level = min(self.size, self.level + (now - self.since) * self.rate)
        self.since = now
        if self.level < tokens:
            return False
        self.level -= tokens
        return True


# Bucket size and refill per second, from "Request throttling for the Amazon EC2 API".
_REQUEST_LIMITS = {"RunInstances": (5, 2), "TerminateInstances": (100, 5), "CreateTags": (100, 10)}
_FILTERED_READS = (100, 20)
_OTHER_CALLS = (50, 5)
_VM_LIMITS = {"RunInstances": (1000, 2), "TerminateInstances": (1000, 20)}


class Throttle:
    """Request and resource limits of EC2, for one account in one region."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def allows(self, action: str, params: Mapping[str, str], vms: int, now: float) -> bool:
        """Return whether EC2 accepts this call now, which launches or terminates `vms` VMs."""
        is_filtered = any(key.startswith(("Filter.", "MaxResults")) for key in params)
        limit = _FILTERED_READS if is_filtered and action.startswith("Describe") else _OTHER_CALLS
        if not self._take(action, *_REQUEST_LIMITS.get(action, limit), 1, now):
            return False
        return action not in _VM_LIMITS or self._take(
            f"{action} VMs", *_VM_LIMITS[action], vms, now
        )

    def _take(self, name: str, size: int, rate: int, tokens: int, now: float) -> bool:
        bucket = self._buckets.setdefault(name, TokenBucket(size, rate, size, now))
        return bucket.take(tokens, now)
