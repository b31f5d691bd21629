"""The times after which a scheduler terminates the cluster; they can change while it runs."""

from typing import Annotated

from pydantic import Field

from planapply.model.base import Record
from planapply.model.quantities import MAX_DURATION

LIFETIME_KEYS = ("idle_timeout", "no_client_timeout")
"""The fields of `NodeConfig`, and the keys under [cluster], that change in place."""

Seconds = Annotated[float, Field(gt=0, le=MAX_DURATION)]
Elapsed = Annotated[float, Field(ge=0, lt=2.5e11)]


class Lifetimes(Record):
    """The times in seconds after which a scheduler terminates the cluster; None for never."""

    idle_timeout: Seconds | None = None
    """Time without tasks."""
    no_client_timeout: Seconds | None = None
    """Time without clients; while tasks are queued or processing, the cluster does not end."""

    @property
    def is_limited(self) -> bool:
        """Return whether the cluster terminates itself."""
        return self.idle_timeout is not None or self.no_client_timeout is not None


class RunningLifetimes(Lifetimes):
    """The lifetimes of a running scheduler, as it reports them."""

    idle_for: Elapsed | None = None
    """Seconds for which no task has been queued or processing; None if one is."""
    no_client_for: Elapsed | None = None
    """Seconds for which no client has been connected; None if one is."""

    @property
    def time_left(self) -> dict[str, float]:
        """Return the seconds until each of them terminates the cluster, if nothing changes; only those that run."""
        elapsed = (self.idle_for, self.no_client_for)
        return {
            key: max(0.0, limit - seconds)
            for key, seconds in zip(LIFETIME_KEYS, elapsed, strict=True)
            if (limit := getattr(self, key)) is not None and seconds is not None
        }
