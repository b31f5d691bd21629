"""recover: rebuild a lost state from the tags of the VMs."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from planapply.dask.scheduler import lifetimes, probe
from planapply.diff import refresh
from planapply.fleet import Journal, Listener, ProviderClient, ProviderFailed
from planapply.model.desired import build_desired_state
from planapply.model.diagnostics import Diagnostic, PlanapplyError, warning
from planapply.model.endpoint import build_endpoint
from planapply.model.lifetimes import LIFETIME_KEYS, Lifetimes
from planapply.model.names import (
    SCHEDULER,
    format_names,
    from_ranges,
    split_name,
)
from planapply.model.node import TAG_CLUSTER, TAG_GROUP, TAG_LINEAGE, TAG_NAMES, VM, NodeConfig
from planapply.model.state import TLS, Resource, State
from planapply.model.tags import cluster_tags
from planapply.ops.apply import lock
from planapply.ops.record import Recorder, load_prices
from planapply.ops.resolve import configs_of, resolve_spec
from planapply.ops.workspace import Workspace
from planapply.specfile.dashboard import missing_plots_of

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n?", re.DOTALL)


@dataclass(frozen=True)
class Recovered:
    """The state that was written, and warnings about what could not be rebuilt."""

    state: State
    diagnostics: tuple[Diagnostic, ...]


def recover(
    workspace: Workspace,
    lineage: str | None = None,
    lock_timeout: float = 0.0,
    *,
    on_event: Listener = lambda event: None,
) -> Recovered:
    """Rebuild the state of the spec's cluster from the tags of its VMs, and write it.

    A VM's configuration is known if the spec has not changed since its launch; the next apply replaces
    VMs with any other digest. Tags can be set by others, so a VM is a node only if its tags agree with each
    other and with the cloud's own record of its launch. Raises PlanapplyError if a state exists, if there is
    no VM, if two VMs claim to be the same node, if two nodes have different keys, and if several clusters
    have this name and `lineage` does not select one.
    """
    with lock(workspace, "recover", lock_timeout, on_event) as held:
        if (existing := workspace.store.read()) is not None and not existing.is_empty:
            raise PlanapplyError(
                f"cannot recover to {workspace.store.location}: there is a state",
                f"It belongs to cluster {existing.cluster!r}, and is not overwritten. To compare it with "
                "what exists, run `planapply plan`; to use another location, pass --state.",
            )
        assert workspace.spec is not None
        cluster = workspace.spec.cluster.name
        client = workspace.connect(None)
        found = _find_vms(client, cluster, lineage)
        vms = [vm for vm in found if vm.name is not None and vm.has_token(vm.batch)]
        if not vms:
            raise PlanapplyError(
                f"cannot recover cluster {cluster!r}: planapply launched none of the VMs with its tags",
                "; ".join(d.summary + ". " + d.detail for d in _unknown_vms(found, vms)),
            )
        _check_claims(vms, cluster)
        now = workspace.clock.time()
        state = State(
            lineage=found[0].tags[TAG_LINEAGE],
            # Greater than the lost state's, so that neither that state nor its plans count as newer.
            serial=max(int(now), existing.serial if existing else 0),
            cluster=cluster,
            provider=workspace.plugin(None).name,
            cloud=client.identity(),
            settings=dict(workspace.spec.provider),
            protect=workspace.spec.cluster.protect,
            next_index=_next_indexes(vms),
            history=existing.history if existing else [],
            ended=existing.ended if existing else [],
        )
        state.issue(sorted({vm.batch for vm in vms}), now)
        state = refresh(state, vms, now, 0.0).state
        scheduler = _restore_configs(state, workspace, client, vms)
        state.resources = _recover_resources(state, client, scheduler)
        notes = [
            *_restore_scheduler(state, workspace, client),
            *_unknown_configs(state),
            *_unknown_vms(found, vms),
        ]
        prices = load_prices(client, state.nodes.values())
        recorder = Recorder("recover", held, workspace.clock, state, prices=prices)
        Journal(workspace.store, state, recorder.stamp).update(lambda _: None)
        return Recovered(state, tuple(notes))


def _find_vms(client: ProviderClient, cluster: str, lineage: str | None) -> list[VM]:
    vms = client.find({TAG_CLUSTER: cluster})
    # Anyone can write a tag; one with a line break would make lines of its own in a message.
    lineages = sorted(
        lineage
        for lineage in {vm.tags.get(TAG_LINEAGE, "") for vm in vms}
        if lineage and lineage.isprintable()
    )
    if not lineages:
        raise PlanapplyError(
            f"cannot find any VM with the tags of cluster {cluster!r}",
            "Run `planapply list` for the clusters of this account; check the region and profile, too.",
        )
    if lineage is None and len(lineages) > 1:
        raise PlanapplyError(
            f"there are {len(lineages)} clusters named {cluster!r}",
            f"Select one with --lineage: {', '.join(lineages)}.",
        )
    chosen = lineage or lineages[0]
    if chosen not in lineages:
        raise PlanapplyError(
            f"there is no cluster {cluster!r} with the lineage {chosen!r}",
            f"Lineages: {', '.join(lineages)}.",
        )
    return [vm for vm in vms if vm.tags.get(TAG_LINEAGE) == chosen]


def _check_claims(vms: Sequence[VM], cluster: str) -> None:
    """Raise PlanapplyError if two VMs claim to be the same node: no tag says which of them is."""
    claims: dict[str | None, list[str]] = {}
    for vm in vms:
        if vm.status != "stopping":
            claims.setdefault(vm.name, []).append(vm.id)
    doubtful = {str(name): ids for name, ids in claims.items() if len(ids) > 1}
    if doubtful:
        listed = "; ".join(f"{name}: {', '.join(sorted(ids))}" for name, ids in doubtful.items())
        raise PlanapplyError(
            f"cannot recover cluster {cluster!r}: several VMs claim to be the same node",
            f"{listed}. Find out which of them planapply launched, and terminate the others or remove their "
            f"tags. Then run `planapply recover {shlex.quote(cluster)}` again.",
        )


def _unknown_vms(found: Sequence[VM], accepted: Sequence[VM]) -> list[Diagnostic]:
    ids = sorted({vm.id for vm in found if vm.status != "stopping"} - {vm.id for vm in accepted})
    if not ids:
        return []
    return [
        warning(
            f"VMs with this cluster's tags that planapply did not launch: {', '.join(ids)}",
            "Their tags name no node, or are not those of the request that launched them, so they were not "
            "recovered.",
        )
    ]


def _next_indexes(vms: Sequence[VM]) -> dict[str, int]:
    """Return the index after all indexes of the VMs' batches, including those of terminated VMs."""
    indexes: dict[str, int] = {}
    for vm in vms:
        for name in from_ranges(vm.tags.get(TAG_NAMES, "").split()):
            group, index = split_name(name)
            if group != name:
                indexes[group] = max(indexes.get(group, 0), index + 1)
    return indexes


def _recover_resources(
    state: State, client: ProviderClient, scheduler: NodeConfig
) -> dict[str, Resource]:
    """Return the existing resources; details that the cloud does not show are assumed to be as desired."""
    found = client.find_resources(cluster_tags(state))
    desired_resources = client.required_resources(state.cluster, scheduler)
    resources = {}
    for name, resource in found.items():
        detail = dict(resource.detail)
        for key, value in (
            desired_resources[name].detail.items() if name in desired_resources else ()
        ):
            if key not in detail or _is_same_value(detail[key], value):
                detail[key] = value
        resources[name] = resource.model_copy(update={"detail": detail})
    return resources


def _is_same_value(observed: object, desired: object) -> bool:
    """Return whether two values are equal, ignoring the order of lists, which clouds do not keep."""
    if isinstance(observed, list) and isinstance(desired, list):
        return sorted(observed) == sorted(desired)
    return observed == desired


def _restore_configs(
    state: State, workspace: Workspace, client: ProviderClient, vms: Sequence[VM]
) -> NodeConfig:
    """Record the configurations of the spec's nodes, with the images that these VMs use.

    Return the scheduler's configuration.
    """
    assert workspace.spec is not None
    plugin = workspace.plugin(None)
    desired_state, pins = resolve_spec(plugin, client, workspace.spec, state)
    images = {vm.tags.get(TAG_GROUP): vm.image for vm in vms if vm.image}
    for config in configs_of(desired_state):
        chosen = pins.get("defaults", {}).get(",".join(config.size), {})
        if "image" in chosen and config.group in images:
            chosen["image"] = images[config.group]  # the current default may be newer
    used = {record.config for record in state.nodes.values()}
    desired_state = build_desired_state(workspace.spec, plugin, pins)
    state.configs = {
        digest: config
        for config in configs_of(desired_state)
        for digest in sorted(config.digests & used)
    }
    state.pins = pins
    return desired_state.scheduler


def _restore_scheduler(
    state: State, workspace: Workspace, client: ProviderClient
) -> list[Diagnostic]:
    """Record the scheduler's address and the TLS key; return warnings about what is missing.

    The scheduler's VM has the key, whatever the spec says, which may be missing.
    """
    record = state.scheduler
    if record is None:
        return [warning("there is no scheduler", "The next apply replaces every node.")]
    assert workspace.spec is not None
    known = state.configs.get(record.config)
    reason, notes = "", []
    if known is None or known.security == "tls":
        state.tls, reason = _read_key(client, record.vm)
    if state.tls is not None:
        notes = _compare_keys(state, client)
    security = workspace.spec.cluster.security or workspace.plugin(None).security
    security = "tls" if state.tls else known.security if known else security
    config = known or NodeConfig(group=SCHEDULER, cls="unknown", security=security)
    state.endpoint = build_endpoint(record, config)
    info = probe(state.endpoint, state.tls)
    if info is not None:
        has_plots = missing_plots_of(state) is None
        state.endpoint = build_endpoint(record, config, info.dashboard if has_plots else None)
        record.status = "joined"
        record.lifetimes = _read_lifetimes(state)
        for name, node in state.nodes.items():
            processes = state.configs[node.config].processes if node.config in state.configs else 1
            if info.has_joined(name, processes):
                node.status = "joined"
    if state.tls is None and security == "tls":
        summary = "the TLS key was not recovered; no client can connect"
        notes.append(_missing_key_warning(summary, reason or "The VM's user data has no key."))
    elif state.tls is None and reason and info is None and not workspace.has_spec_file:
        # Without TLS, the scheduler may be unreachable from this machine.
        summary = "no TLS key was recovered; if the cluster uses TLS, no client can connect"
        notes.append(_missing_key_warning(summary, reason))
    return notes


def _read_lifetimes(state: State) -> Lifetimes | None:
    """Return the lifetimes of a scheduler that answers; None if it does not have planapply's plugin."""
    running = None if state.endpoint is None else lifetimes(state.endpoint, state.tls)
    return running and Lifetimes(**running.model_dump(include=set(LIFETIME_KEYS)))


def _missing_key_warning(summary: str, reason: str) -> Diagnostic:
    return warning(
        summary,
        f"{reason} To create a cluster with a new key, run `planapply apply --replace scheduler`; to remove this "
        "cluster, run `planapply destroy`.",
    )


def _read_key(client: ProviderClient, vm: str) -> tuple[TLS | None, str]:
    """Return the key pair in a VM's user data; or None, and the reason: empty if the data has no key."""
    if not client.has_secrets:
        return None, "The cloud does not show the user data of a VM."
    try:
        text = client.secrets(vm)
    except ProviderFailed as failed:
        return None, f"{failed.error.summary}. {failed.error.detail}".rstrip()
    certificate, key = _CERTIFICATE.search(text), _KEY.search(text)
    if certificate and key:
        return TLS(certificate=certificate[0], key=SecretStr(key[0])), ""
    return None, "" if text else f"The cloud shows no user data of VM {vm}."


def _compare_keys(state: State, client: ProviderClient) -> list[Diagnostic]:
    """Compare the scheduler's key pair with that of a worker; raise PlanapplyError if they differ.

    A VM that another user has launched and tagged as the scheduler has a key of its own.
    """
    workers = sorted(state.nodes.keys() - {SCHEDULER})
    scheduler = state.scheduler
    if not workers or scheduler is None:
        return []
    worker = state.nodes[workers[0]]
    pair, reason = _read_key(client, worker.vm)
    if pair is None:
        return [
            warning(
                f"cannot compare the TLS key of the scheduler with that of {workers[0]}",
                f"{reason} Check that planapply launched VM {scheduler.vm}, from which the key was read.",
            )
        ]
    if pair != state.tls:
        raise PlanapplyError(
            f"cannot recover cluster {state.cluster!r}: its nodes have different TLS keys",
            f"The scheduler (VM {scheduler.vm}) and {workers[0]} (VM {worker.vm}) were given different keys, so "
            "planapply did not launch both for this cluster. Find out which of them it launched, and terminate "
            f"the other or remove its tags. Then run `planapply recover {shlex.quote(state.cluster)}` again.",
        )
    return []


def _unknown_configs(state: State) -> list[Diagnostic]:
    unknown = [name for name, r in state.nodes.items() if r.config not in state.configs]
    if not unknown:
        return []
    return [
        warning(
            f"the configuration of these nodes is unknown: {format_names(unknown)}",
            "The spec has changed since these nodes were launched, or none was given, so the next apply "
            "would replace them. Restore the spec before you apply; `planapply destroy` works without it.",
        )
    ]
