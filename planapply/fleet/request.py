"""Launch requests and tags, made from a state and an intent; the same intent makes the same request."""

from collections.abc import Iterator, Mapping, Sequence

from planapply import bootstrap
from planapply.model.names import SCHEDULER, to_ranges
from planapply.model.node import TAG_STATE, NodeConfig
from planapply.model.state import Choice, Intent, State
from planapply.model.tags import vm_tags
from planapply.provider import LaunchRequest, Limits

MAX_TAG_LENGTH = 255  # EC2 allows 256 characters in a tag's value, the fewest of the clouds


def split_batches(names: Sequence[str], max_size: int) -> Iterator[list[str]]:
    """Yield batches of at most `max_size` names, each short enough for one tag."""
    start = 0
    while start < len(names):
        batch = list(names[start : start + max_size])
        while len(batch) > 1 and len(" ".join(to_ranges(batch))) > MAX_TAG_LENGTH:
            del batch[-max(1, len(batch) // 8) :]  # in steps, for thousands of names
        yield batch
        start += len(batch)


def node_tags(state: State, config: NodeConfig, token: str, intent: Intent) -> dict[str, str]:
    """Return all tags of the VMs of one batch, including the user's."""
    names = " ".join(to_ranges(intent.names))
    own = vm_tags(state, config.group, names, batch=token, config=intent.config)
    return {**config.tags, **own, **({TAG_STATE: state.origin} if state.origin else {})}


def in_scheduler_zone(
    choices: Sequence[Choice], config: NodeConfig, state: State
) -> Sequence[Choice]:
    """Return the choices in the scheduler's zone, because traffic between zones costs money.

    Return all choices if the spec names zones, or if no choice is in the scheduler's zone.
    """
    scheduler = state.scheduler
    if config.zones or config.group == SCHEDULER or scheduler is None:
        return choices
    return [choice for choice in choices if choice.zone == scheduler.zone] or choices


def avoid_choice(
    choices: Sequence[Choice], offered: Sequence[Choice], avoided: Choice
) -> Sequence[Choice]:
    """Return the choices with `avoided`, a VM that the cloud took back, after all others of its market.

    The choices in other zones, too: they are `offered`, although traffic between zones costs money.
    """
    every = [*choices, *(choice for choice in offered if choice not in choices)]
    return sorted(every, key=lambda choice: (not choice.spot, choice == avoided))


def launch_request(
    state: State,
    token: str,
    intent: Intent,
    limits: Limits,
    secrets: Mapping[str, str] = {},
) -> LaunchRequest:
    """Return the request for the VMs of an intent; `secrets` are the values of its secret variables."""
    config = state.configs[intent.config]
    if intent.lifetimes is not None:
        # Not those of a later spec, whose configuration has the same digest.
        config = config.model_copy(update=dict(intent.lifetimes))
    tags = node_tags(state, config, token, intent)
    arguments = (config, intent.names, intent.scheduler_address, state.tls)
    return LaunchRequest(
        token=token,
        names=tuple(intent.names),
        config=config,
        choice=intent.choice,
        tags=tags,
        boots=()
        if limits.user_data
        else bootstrap.build_processes(*arguments, cluster=state.cluster, secrets=secrets),
        user_data=bootstrap.build_user_data(*arguments, cluster=state.cluster, secrets=secrets)
        if limits.user_data
        else b"",
        resources=dict(state.resources),
    )
