"""The lock that lets one process at a time adapt a cluster."""

from contextlib import ExitStack

from planapply.model.diagnostics import PlanapplyError
from planapply.store import NO_SETTINGS, AWSSettings, LockInfo, StateLocked, open_store
from planapply.store.errors import unlock_command


class AdaptiveLock:
    """A lock next to the state, held while a cluster is adaptive.

    If its process dies, it is left as the lock on the state would be: a local one is free
    immediately, one in a bucket is released with `planapply unlock`.
    """

    def __init__(self, state: str, aws: AWSSettings = NO_SETTINGS) -> None:
        self._location, self._aws = f"{state}.adaptive", aws
        self._exit_stack = ExitStack()

    def acquire(self) -> None:
        """Take the lock; raise PlanapplyError, which names the holder, if it is held."""
        try:
            self._exit_stack.enter_context(open_store(self._location, self._aws).lock("adapt"))
        except StateLocked as error:
            raise self._held_error(error.holder) from None  # its advice is for a change

    def _held_error(self, holder: LockInfo) -> PlanapplyError:
        if holder.is_this_process:
            return PlanapplyError(
                "another Cluster object of this process has been adapting this cluster",
                "Close that Cluster object, or call adapt() on it.",
            )
        advice = "Close it there, or call cluster.adapt() again afterwards."
        if holder.is_dead() or not holder.is_local:
            advice += (
                "\nIf that process no longer exists, release its lock:\n"
                f"  {self._aws.command_prefix}{unlock_command(holder.id, self._location)}"
            )
        who = holder.name if holder.who else "Another process"
        since = f" since {holder.since}" if holder.since else ""
        summary = f"{who} has been adapting this cluster{since}"
        return PlanapplyError(summary, advice)

    def release(self) -> None:
        """Let another process adapt the cluster; do nothing if the lock is not held."""
        self._exit_stack.close()
