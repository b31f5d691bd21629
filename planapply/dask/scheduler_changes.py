"""Changes to a running scheduler that an apply makes: workers that retire, and its lifetimes."""

import asyncio
from collections.abc import Collection

from planapply.dask.safe_rpc import UndecodableAnswer
from planapply.dask.scheduler import NO_RECIPIENT, RETIRE_TIMEOUT, connect
from planapply.model.diagnostics import NOT_RETIRED, PlanapplyError
from planapply.model.lifetimes import Lifetimes
from planapply.model.state import TLS, Endpoint

HEAL_TIMEOUT = 100.0
"""Seconds in which they must do so in a round of `watch`: a spot VM under notice has two minutes."""
LIFETIMES_TIMEOUT = 30.0
"""Seconds in which a scheduler must confirm changed lifetimes."""


class NotRetired(PlanapplyError):
    """A leaving node that stays, since its workers could not be retired."""

    def __init__(self, name: str, reason: str, *, is_retried: bool = False) -> None:
        advice = (
            "The next round tries again."
            if is_retried
            else "Run the command again to retry, or pass --no-retire to terminate them without moving "
            "their results."
        )
        super().__init__(
            f"{name}: cannot retire the workers: {reason}",
            f"These VMs keep running, so that no results are lost. {advice}",
            code=NOT_RETIRED,
        )


async def retire_workers(
    endpoint: Endpoint, tls: TLS | None, names: Collection[str], *, is_healing: bool = False
) -> tuple[frozenset[str], str]:
    """Retire these Dask workers; return those that remain, and the reason."""
    timeout = HEAL_TIMEOUT if is_healing else RETIRE_TIMEOUT
    try:
        async with (
            asyncio.timeout(timeout),
            connect(endpoint, tls, retry_slow=True) as scheduler,
        ):
            return await scheduler.retire_workers(names), NO_RECIPIENT
    except TimeoutError:
        return frozenset(names), f"timed out after {timeout:g} s"
    except OSError as error:
        return frozenset(names), f"the scheduler does not answer ({error})"


class LifetimesNotChanged(PlanapplyError):
    """A scheduler that keeps its lifetimes."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"cannot change the lifetimes of the scheduler: {reason}",
            "They count as unchanged. Run the command again to retry, or replace the scheduler with "
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
    except UndecodableAnswer as error:
        return str(error)
    except OSError as error:
        return f"the scheduler does not answer ({error})"
    if changed is None:
        return "it does not have planapply's plugin"
    # Without an `idle_timeout`, that of Dask's configuration on its node holds.
    requested = lifetimes.model_dump(exclude_none=True)
    is_as_requested = requested.items() <= changed.model_dump().items()
    return "" if is_as_requested else "it reports other times"
