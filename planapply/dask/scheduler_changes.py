"""Changes to a running scheduler that an apply makes: workers that retire, and its lifetimes."""

import asyncio
from collections.abc import Collection

from planapply.dask.scheduler import NO_RECIPIENT, RETIRE_TIMEOUT, connect
from planapply.model.diagnostics import PlanapplyError
from planapply.model.lifetimes import Lifetimes
from planapply.model.state import TLS, Endpoint

LIFETIMES_TIMEOUT = 30.0
"""Seconds in which a scheduler must confirm changed lifetimes."""


class NotRetired(PlanapplyError):
    """A leaving node that stays, since its workers could not be retired."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name}: cannot retire the workers: {reason}",
            "These VMs keep running, so that no results are lost. Run the command again to retry, or "
            "pass --no-retire to terminate them without moving their results.",
        )


async def retire_workers(
    endpoint: Endpoint, tls: TLS | None, names: Collection[str]
) -> tuple[frozenset[str], str]:
    """Retire these Dask workers; return those that remain, and the reason."""
    try:
        async with (
            asyncio.timeout(RETIRE_TIMEOUT),
            connect(endpoint, tls, retry_slow=True) as scheduler,
        ):
            return await scheduler.retire_workers(names), NO_RECIPIENT
    except TimeoutError:
        return frozenset(names), f"timed out after {RETIRE_TIMEOUT:g} s"
    except OSError as error:
        return frozenset(names), f"the scheduler does not answer ({error})"


class LifetimesNotChanged(PlanapplyError):
    """A scheduler that keeps its lifetimes."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot change the lifetimes of the scheduler: {reason}",
            "They are unchanged. Run the command again to retry, or replace the scheduler with "
            "`planapply apply --replace scheduler`.",
        )


async def set_lifetimes(endpoint: Endpoint | None, tls: TLS | None, lifetimes: Lifetimes) -> str:
    """Change the lifetimes of the scheduler; return why that failed, or an empty text."""
    if endpoint is None:
        return "it has no address"
    try:
        async with (
            asyncio.timeout(LIFETIMES_TIMEOUT),
            connect(endpoint, tls, retry_slow=True) as scheduler,
        ):
            changed = await scheduler.set_lifetimes(lifetimes)
    except TimeoutError:
        return f"timed out after {LIFETIMES_TIMEOUT:g} s"
    except OSError as error:
        return f"the scheduler does not answer ({error})"
    return "" if changed is not None else "it does not have planapply's plugin"
