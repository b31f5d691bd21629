"""The tags that planapply itself sets on VMs and supporting resources."""

from planapply.model.node import (
    TAG_BATCH,
    TAG_CLUSTER,
    TAG_CONFIG,
    TAG_GROUP,
    TAG_LINEAGE,
    TAG_NAMES,
)
from planapply.model.state import State


def cluster_tags(state: State) -> dict[str, str]:
    """Return the tags of every VM and resource of this cluster."""
    return {TAG_CLUSTER: state.cluster, TAG_LINEAGE: state.lineage}


def vm_tags(state: State, group: str, names: str, *, batch: str, config: str) -> dict[str, str]:
    """Return the tags of a batch's VMs, except `planapply:state`, which is for display only.

    `names` are the batch's nodes as ranges, `config` is the digest of their configuration. An empty
    value is left out.
    """
    tags = {
        "Name": f"{state.cluster} {group}",
        **cluster_tags(state),
        TAG_GROUP: group,
        TAG_BATCH: batch,
        TAG_NAMES: names,
        TAG_CONFIG: config,
    }
    return {key: value for key, value in tags.items() if value}
