"""The check of `state push`: a state may only be replaced by a newer version of itself."""

from planapply.model.state import State
from planapply.store.errors import StateError


def check_push(current: State | None, new: State) -> None:
    """Raise StateError unless `new` equals `current`, or has its lineage and a later serial."""
    if current is None or current == new:
        return
    if current.lineage != new.lineage:
        raise StateError(
            "cannot replace the state: the file is the state of a different cluster",
            f'The file belongs to cluster "{new.cluster}" (lineage {new.lineage}), the state to '
            f'cluster "{current.cluster}" (lineage {current.lineage}). Replacing the state would '
            "lose track of its VMs. Push the file to another location with --state.",
        )
    if new.serial <= current.serial:
        age = (
            "the file is older"
            if new.serial < current.serial
            else "the file has the same serial, but different content"
        )
        serials = f"The file has serial {new.serial}, and the state has serial {current.serial}."
        if new.serial == current.serial:
            serials = f"Both have serial {new.serial}."
        raise StateError(
            f"cannot replace the state: {age}",
            f"{serials} Replacing the "
            "state would lose track of later changes. Run `planapply plan`: it finds VMs that are "
            "missing from the state by their tags.",
        )
