"""An intent and the state give the request, the same one each time it is asked: pure."""

from collections.abc import Iterator, Sequence

from planapply import bootstrap
from planapply.model.names import SCHEDULER, to_ranges
from planapply.model.node import (
    TAG_BATCH,
    TAG_CLUSTER,
    TAG_CONFIG,
    TAG_GROUP,
    TAG_LINEAGE,
    TAG_NAMES,
    NodeConfig,
)
from planapply.model.state import Choice, Intent, State
from planapply.provider import LaunchRequest, Limits

MAX_TAG_LENGTH = (
    255  # EC2's limit for a tag's value is 256 characters, and the tightest that we know of
)


def split_batches(names: Sequence[str], max_size: int) -> Iterator[list[str]]:
    """Names in batches of at most `max_size`, each short enough to be written into one tag."""
    start = 0
    while start < len(names):
        batch = list(names[start : start + max_size])
        while len(batch) > 1 and len(" ".join(to_ranges(batch))) > MAX_TAG_LENGTH:
            del batch[-max(1, len(batch) // 8) :]  # in steps, for thousands of names
        yield batch
        start += len(batch)


def cluster_tags(state: State) -> dict[str, str]:
    """What every VM and resource of this cluster carries."""
    return {TAG_CLUSTER: state.cluster, TAG_LINEAGE: state.lineage}


def node_tags(state: State, config: NodeConfig, names: Sequence[str], token: str) -> dict[str, str]:
    """All tags of one batch, the user's included."""
    return {
        **config.tags,
        "Name": f"{state.cluster} {config.group}",
        **cluster_tags(state),
        TAG_GROUP: config.group,
        TAG_BATCH: token,
        TAG_NAMES: " ".join(to_ranges(names)),
        TAG_CONFIG: config.digest,
    }


def in_scheduler_zone(
    choices: Sequence[Choice], config: NodeConfig, state: State
) -> Sequence[Choice]:
    """Those choices that are in the scheduler's zone, if there are any.

    Where the spec names no zones: traffic between them costs money.
    """
    scheduler = state.scheduler
    if config.zones or config.group == SCHEDULER or scheduler is None:
        return choices
    return [choice for choice in choices if choice.zone == scheduler.zone] or choices


def launch_request(state: State, token: str, intent: Intent, limits: Limits) -> LaunchRequest:
    """What to ask the provider for."""
    config = state.configs[intent.config]
    tags = node_tags(state, config, intent.names, token)
    arguments = (config, intent.names, intent.scheduler, state.tls)
    return LaunchRequest(
        token=token,
        names=tuple(intent.names),
        config=config,
        choice=intent.choice,
        tags=tags,
        boots=()
        if limits.user_data
        else bootstrap.build_processes(*arguments, cluster=state.cluster),
        user_data=bootstrap.build_user_data(*arguments, cluster=state.cluster)
        if limits.user_data
        else b"",
        resources=dict(state.resources),
    )
