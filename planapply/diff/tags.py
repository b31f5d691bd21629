"""The tags of a node's VM: which of them differ, and which planapply itself has set."""

from collections.abc import Iterable, Mapping

from planapply.model.names import split_name
from planapply.model.node import TAG_NAMES, VM, is_own_tag
from planapply.model.plan import FieldChange
from planapply.model.state import State
from planapply.model.tags import vm_tags

TAG_PATH = "tags."


def changed_tags(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[FieldChange, ...]:
    """Return the tags set by planapply that differ or are missing."""
    return tuple(
        FieldChange(
            path=f"{TAG_PATH}{key}",
            before=before.get(key),
            after=after.get(key),
            forces_replacement=False,
        )
        for key in sorted({**before, **after})
        if before.get(key) != after.get(key)
    )


def expected_tags(state: State, name: str, vm: VM) -> dict[str, str]:
    """Return planapply's own tags of a node's VM, except `planapply:state`, which is for display only."""
    record, group = state.nodes[name], split_name(name)[0]
    names = vm.tags.get(TAG_NAMES, "")
    if vm.name != name:
        # The other nodes of the batch are not known any more: any names with this one at the VM's index.
        names = f"{group}-[0..{vm.index - 1}] {name}" if vm.index else name
    return vm_tags(state, group, names, batch=record.batch, config=record.config)


def own_fields(fields: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """Return those of a VM's changed tags that planapply itself sets."""
    return tuple(field for field in fields if is_own_tag(field.path.removeprefix(TAG_PATH)))
