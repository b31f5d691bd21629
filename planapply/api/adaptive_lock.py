"""One process at a time may be adaptive."""

from contextlib import ExitStack

from planapply.model.diagnostics import PlanapplyError
from planapply.store import StateLocked, open_store


class Claim:
    """The lock of a place beside the state, held for as long as a cluster is adaptive.

    A process that dies leaves it as it would leave the state's lock: a local one is free at once, one
    in a bucket is broken with `planapply unlock`.
    """

    def __init__(self, state: str) -> None:
        self._place = f"{state}.adaptive"
        self._held = ExitStack()

    def take(self) -> None:
        """Raises PlanapplyError that says who has it."""
        try:
            self._held.enter_context(open_store(self._place).lock("adapt"))
        except StateLocked as locked:
            if locked.holder.is_ours:
                raise PlanapplyError(
                    "this process scales this cluster adaptively already",
                    "Another Cluster object does: call adapt() on that one, or close it first. Two "
                    "of them would undo each other's changes.",
                ) from locked
            raise PlanapplyError(
                "another process scales this cluster adaptively",
                f"{locked.diagnostics[0].detail}\nTwo of them would undo each other's changes.",
            ) from locked

    def release(self) -> None:
        """Somebody else may be adaptive; no harm where it is not held."""
        self._held.close()
