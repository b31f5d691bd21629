"""The lock that lets one process at a time adapt a cluster."""

from contextlib import ExitStack

from planapply.model.diagnostics import PlanapplyError
from planapply.store import NO_SETTINGS, AWSSettings, LockInfo, StateLocked, Store, open_store
from planapply.store.errors import unlock_command

WATCH_LOAD = "watch (load)"
"""The purpose of the adaptive lock of a watcher. Not that of its lock on the state, which is short."""


class AdaptiveLockHeld(PlanapplyError):
    """An adaptive lock that another process, or another object of this process, holds."""


class AdaptiveLock:
    """A lock next to the state, held while a cluster is adaptive.

    If its process dies, it is left as the lock on the state would be: the next process on this machine
    takes it over; on another one, it is released with `planapply unlock`.
    """

    def __init__(
        self, state: str, aws: AWSSettings = NO_SETTINGS, *, purpose: str = "adapt"
    ) -> None:
        self._location, self._aws, self._purpose = f"{state}.adaptive", aws, purpose
        self._exit_stack = ExitStack()
        self._held: LockInfo | None = None
        self._store: Store | None = None

    def acquire(self) -> LockInfo:
        """Take the lock and return its description, with the dead process that it is taken over from.

        Raises AdaptiveLockHeld, which names the holder, if it is held, and StateError.
        """
        self._store = store = open_store(self._location, self._aws)
        try:
            self._held = self._exit_stack.enter_context(store.lock(self._purpose))
        except StateLocked as error:
            raise self._held_error(error.holder) from None  # its advice is for a change
        return self._held

    def holder(self) -> LockInfo | None:
        """Return the process that adapts the cluster; None if none does. Raises StateError."""
        return open_store(self._location, self._aws).lock_info()

    def is_held(self) -> bool:
        """Return whether this object still holds the lock; another process may have released it.

        Raises StateError.
        """
        if self._held is None:
            return False
        holder = self.holder()
        return holder is not None and holder.id == self._held.id

    def _held_error(self, holder: LockInfo) -> AdaptiveLockHeld:
        if holder.is_this_process:
            return AdaptiveLockHeld(
                "another Cluster object of this process has been adapting this cluster",
                "Close that Cluster object, or call adapt() on it.",
            )
        if holder.purpose == WATCH_LOAD:
            advice = "It is a `planapply watch`: stop it there, or remove `adapt` from the spec."
        else:
            advice = "Close it there, or call cluster.adapt() again afterwards."
        if holder.is_dead() or not holder.is_local:
            advice += (
                "\nIf that process no longer exists, release its lock:\n"
                f"  {self._aws.command_prefix}{unlock_command(holder.id, self._location)}"
            )
        who = holder.name if holder.who else "Another process"
        since = f" since {holder.since}" if holder.since else ""
        summary = f"{who} has been adapting this cluster{since}"
        return AdaptiveLockHeld(summary, advice)

    def release(self, *, is_stopping: bool = False) -> None:
        """Let another process adapt the cluster; do nothing if the lock is not held. Raises StateError.

        With `is_stopping`, wait only a few seconds for a bucket.
        """
        if self._store is not None and is_stopping:
            self._store.set_deadline()
        self._held = None
        self._exit_stack.close()
