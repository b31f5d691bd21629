"""What goes wrong in the lab, and when: faults, request limits and the clock that both go by."""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass
class Fault:
    """One thing that goes wrong with calls of `action`, counted from when it was set.

    With neither `error`, `page` nor `lost` it only delays or holds.
    """

    action: str
    """`RunInstances`, `s3:PutObject`, `ssm:GetParameter`, …; `*` and `?` match as in file names."""
    error: str = ""
    """AWS's error code: the call is answered with it and not carried out."""
    status: int = 400
    message: str = "set by the lab"
    page: str = ""
    """A web page, which a proxy answers with in AWS's place, with `status`: after the call was
    carried out if `lost` is `after`, and else without."""
    delay: float = 0.0
    """Seconds before anything else happens to the call."""
    held: threading.Event | None = None
    """Likewise, until this comes; in the cloud's own process only."""
    lost: Literal["", "before", "after"] = ""
    """The connection is dropped: before the call was carried out, or after it."""
    at: int = 1
    """The first matching call that it hits, from 1."""
    times: int | None = 1
    """How many calls it hits; None: all from there on."""
    chance: float = 1.0
    """With which it hits one of those calls, from the lab's seeded randomness."""
    seen: int = 0
    hits: int = 0


class Faults:
    """The faults that are set; each call is hit by the first that wants it."""

    def __init__(self, seed: int = 0) -> None:
        self.active: list[Fault] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def match(self, action: str) -> Fault | None:
        """The fault that hits this call of `action`."""
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
    """Seconds that pass by themselves until a test freezes them and moves them itself."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._frozen: float | None = None

    def __call__(self) -> float:
        return (time.monotonic() if self._frozen is None else self._frozen) + self._offset

    def freeze(self) -> None:
        """Let time pass by `advance` only."""
        self._frozen = time.monotonic()

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._offset += seconds


@dataclass
class TokenBucket:
    """A token bucket as EC2 documents it."""

    size: float
    rate: float
    level: float
    since: float

    def take(self, tokens: float, now: float) -> bool:
        """Whether there were that many tokens; if so they are gone."""
        self.level = min(self.size, self.level + (now - self.since) * self.rate)
        self.since = now
        if self.level < tokens:
            return False
        self.level -= tokens
        return True


# Bucket size and refill a second, from "Request throttling for the Amazon EC2 API".
_REQUEST_LIMITS = {"RunInstances": (5, 2), "TerminateInstances": (100, 5), "CreateTags": (100, 10)}
_FILTERED_READS = (100, 20)
_OTHER_CALLS = (50, 5)
_VM_LIMITS = {"RunInstances": (1000, 2), "TerminateInstances": (1000, 20)}


class Throttle:
    """EC2's request and resource limits of one account in one region."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def allows(self, action: str, params: Mapping[str, str], vms: int, now: float) -> bool:
        """Whether EC2 would take this call now, that launches or ends `vms`."""
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
