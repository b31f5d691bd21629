"""One process at a time may be adaptive."""

from contextlib import ExitStack

from planapply.model.diagnostics import PlanapplyError
from planapply.store import StateLocked, open_store


class AdaptiveLock:
    """The lock of a place beside the state, held for as long as a cluster is adaptive.

    A process that dies leaves it as it would leave the state's lock: a local one is free at once, one
    in a bucket is broken with `planapply unlock`.
    """

    def __init__(self, state: str) -> None:
        self._location = f"{state}.adaptive"
        self._exit_stack = ExitStack()

    def acquire(self) -> None:
        """Raises PlanapplyError that says who has it."""
        try:
            self._exit_stack.enter_context(open_store(self._location).lock("adapt"))
        except StateLocked as error:
            if error.holder.is_this_process:
                raise PlanapplyError(
                    "this process scales this cluster adaptively already",
                    "Another Cluster object does: call adapt() on that one, or close it first. Two "
                    "of them would undo each other's changes.",
                ) from error
            raise PlanapplyError(
                "another process scales this cluster adaptively",
                f"{error.diagnostics[0].detail}\nTwo of them would undo each other's changes.",
            ) from error

    def release(self) -> None:
        """Somebody else may be adaptive; no harm where it is not held."""
        self._exit_stack.close()
