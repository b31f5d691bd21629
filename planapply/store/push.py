"""What may replace a state by hand."""

from planapply.model.state import State
from planapply.store.errors import StateError


def check_push(current: State | None, new: State) -> None:
    """Raises StateError unless `new` equals `current`, or has its lineage and a later serial."""
    if current is None or current == new:
        return
    if current.lineage != new.lineage:
        raise StateError(
            "the file is of another state",
            f'It is of cluster "{new.cluster}" (lineage {new.lineage}), the state in place of '
            f'cluster "{current.cluster}" (lineage {current.lineage}). Replacing one by the other '
            "would forget VMs. Push it to a place of its own with --state.",
        )
    if new.serial <= current.serial:
        age = "older than" if new.serial < current.serial else "as old as, but not the same as,"
        raise StateError(
            f"the file is {age} the state in place",
            f"The file has serial {new.serial}, the state serial {current.serial}. Replacing it "
            "would forget what happened since. Run `planapply plan`: VMs that the state doesn't "
            "know are found by their tags.",
        )
