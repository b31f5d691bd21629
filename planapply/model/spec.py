"""The spec: the description of one Dask cluster in one file.

The docstrings of this module and of `environment_settings` are the reference (`docs/spec.md`,
`planapply schema`). Each key declares once, as its effect, what changing it does to existing nodes:

- `nothing`: no node changes; a changed number of nodes adds or removes nodes;
- `update`: the running VMs are changed in place, if the provider supports it;
- `replacement`: each affected node gets another VM;
- `refusal`: the plan is an error.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PrivateAttr, SerializerFunctionWrapHandler, model_serializer

from planapply.model.base import Model
from planapply.model.diagnostics import PlanapplyError
from planapply.model.environment_settings import ClientEnvironment, EnvironmentSettings
from planapply.model.field_types import (
    AdaptKey,
    ClusterName,
    CommandWords,
    DottedClass,
    GroupName,
    MaxUnavailable,
    Spot,
    StateLocation,
    Tags,
    Text,
    TextList,
    TextOrTextList,
    check_state_location,
    spec_key,
)
from planapply.model.names import MAX_NODES
from planapply.model.paths import expand_home
from planapply.model.quantities import Duration, Size

REQUIREMENTS = ("cpus", "memory", "gpus", "arch")
"""The node settings that select a size in place of `size`."""


class ClusterSettings(Model):
    """The cluster as a whole."""

    name: Annotated[ClusterName, spec_key("refusal", "genomics")]
    """Name of the cluster: 1 to 63 letters, digits, and hyphens. Every VM has it as a tag, so it cannot
    change while the cluster exists. Destroy the cluster first, or use another state for the new one.
    """
    provider: Annotated[Text, spec_key("refusal", "ec2")] = "local"
    """Provider that launches the VMs; `planapply providers` lists the installed ones. Default: `local`.
    """
    state: Annotated[StateLocation | None, spec_key("nothing", "s3://bucket/genomics.json")] = None
    """Location of the state: a path, relative to the spec's folder, or a URL that begins with `s3://`,
    `gs://`, or `az://`. Default: next to the spec, with the spec's name and the suffix `.state.json`.
    A change does not move the state. Move it first (`planapply state pull` and `push`); otherwise
    planapply finds no state there, and knows nothing about the running VMs."""
    security: Annotated[Literal["tls", "none"] | None, spec_key("replacement", "tls")] = None
    """`tls` encrypts all traffic among nodes and clients, with a key created for this cluster. With
    `none`, anyone who can reach the scheduler can run code on every node. Default: `tls` in every
    cloud, `none` for `local`. A change replaces every node."""
    idle_timeout: Annotated[Duration | None, spec_key("update", "30 min")] = None
    """Idle time after which the scheduler stops, and its VM and its workers' VMs terminate. A cluster is
    idle while no task is queued or processing. Default: never.

    An `apply` sends a changed time to the running scheduler, which replaces no node; the time counts again from
    then on. A scheduler that an
    earlier version of planapply launched cannot be changed: then the plan replaces it, and every node."""
    no_client_timeout: Annotated[Duration | None, spec_key("update", "2 h")] = None
    """Time without a client after which the scheduler stops as after `idle_timeout`, counted from its start.
    Clients that tasks use, and results kept by `fire_and_forget`, do not count. While a task is queued or
    processing, the cluster does not end. Default: never. A change has the same effect as one of
    `idle_timeout`."""
    ttl: Annotated[Duration | None, spec_key("replacement", "12 h")] = None
    """Age at which VMs terminate themselves, whatever happens. Default: never. A change replaces every
    node."""
    max_cost: Annotated[float | None, spec_key("nothing", 40.0, gt=0)] = None
    """USD an hour. A plan that would raise the expected cost above it is an error, and an alternative (a
    size, a zone, or an on-demand VM in place of a spot VM) that would exceed it is not launched. A change
    that does not raise the cost is always allowed. Default: no limit.

    Disks, addresses, and traffic are not counted. Each size needs a known price; set others with `price`
    under `[provider]`. `local` ignores this key, because its VMs cost nothing.
    """
    max_total_cost: Annotated[float | None, spec_key("nothing", 500.0, gt=0)] = None
    """USD over the life of the cluster. A plan that launches VMs is an error if the cluster would then cost
    more within an hour, counted from its creation, unless the plan lowers the cost per hour. Default: no
    limit. It terminates nothing: for that, set `ttl`, `idle_timeout`, or `no_client_timeout`.

    `planapply status` shows the cost so far. It starts again when the cluster is created again after a
    `destroy`. As for `max_cost`, each size needs a known price, disks, addresses, and traffic are not
    counted, and `local` ignores this key.
    """
    join_timeout: Annotated[Duration, spec_key("nothing", "10 min")] = 600.0
    """Time that `apply` waits for a launched node to join the scheduler. Default: 10 minutes."""
    tags: Annotated[Tags, spec_key("update", {"team": "bio"})] = {}
    """Tags for every VM and supporting resource."""
    protect: Annotated[bool, spec_key("nothing", True)] = False
    """A plan that would destroy or replace anything is refused. Default: `false`.

    `scale` and `adapt` can still shrink an elastic group within `min` and `max`, because that is its
    purpose. An `apply` that would shrink it because `max` was lowered is refused: nodes would be lost
    as a side effect of an edit, which `protect` is meant to prevent.
    """


class NodeSettings(Model):
    """Default VM settings for the scheduler and every group; each can override them."""

    size: Annotated[
        TextOrTextList, spec_key("replacement", "m7i.large", ["m7i.large", "m6i.large"])
    ] = ()
    """The cloud's name of the VM type, or a list of names. planapply tries them in this order if the
    cloud is out of capacity. A VM whose size is still in a changed list stays. Default: the provider's.
    """
    cpus: Annotated[int | None, spec_key("replacement", 8, ge=1, le=10_000)] = None
    """In place of `size`: the minimum number of virtual CPUs. A plan chooses the cheapest sizes that
    meet `cpus`, `memory`, `gpus`, and `arch`; the choice is then kept."""
    memory: Annotated[Size | None, spec_key("replacement", "32 GiB")] = None
    """In place of `size`: the minimum amount of memory."""
    gpus: Annotated[int | None, spec_key("replacement", 1, ge=1, le=1000)] = None
    """In place of `size`: the minimum number of GPUs."""
    arch: Annotated[Literal["x86_64", "arm64"] | None, spec_key("replacement", "arm64")] = None
    """In place of `size`: the processor architecture."""
    image: Annotated[Text | None, spec_key("replacement", "ami-0123456789abcdef0")] = None
    """The cloud's ID of the image that the VM boots. Default: the provider's, a current Debian."""
    zones: Annotated[TextList, spec_key("replacement", ["eu-west-1a", "eu-west-1b"])] = ()
    """Zones for the VM, tried in this order. Default: any zone of the region."""
    spot: Annotated[Spot, spec_key("replacement", "prefer")] = False
    """Whether to use spot VMs, which cost less and can be reclaimed by the cloud: `false`, `true`, or
    `"prefer"` for spot VMs if available, and otherwise on-demand VMs. Default: `false`."""
    disk: Annotated[Size | None, spec_key("replacement", "100 GiB")] = None
    """Size of the root disk. Default: the size of the image's disk."""
    create: Annotated[
        dict[str, Any], spec_key("replacement", {"ex_metadata": {"team": "bio"}})
    ] = {}
    """For the provider `libcloud`: more arguments of the driver's `create_node`."""
    tags: Annotated[Tags, spec_key("update", {"stage": "test"})] = {}
    """Tags for the VM, in addition to those of the cluster and of `[defaults]`."""


class SchedulerSettings(NodeSettings):
    """The scheduler. Replacing it replaces every node."""

    cls: Annotated[DottedClass, spec_key("replacement", "distributed.Scheduler", alias="class")] = (
        "distributed.Scheduler"
    )
    """Class to run, in dotted form. Default: `distributed.Scheduler`."""
    options: Annotated[dict[str, Any], spec_key("replacement", {"dashboard": False})] = {}
    """Arguments of the class. For distributed's own classes, a plan checks their names and types against
    the version that `packages` or `requirements` pin; without a pinned version it only warns."""


class AdaptSettings(Model):
    """How a watcher follows the load of an elastic group."""

    target: Annotated[Duration, spec_key("nothing", "2 min")] = 120.0
    """Time in which the scheduler's tasks should be done: more nodes are launched if they would take longer."""
    idle: Annotated[Duration, spec_key("nothing", "5 min")] = 300.0
    """Time that a node must be idle before it is terminated."""

    @model_serializer(mode="wrap")
    def _serialize(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any] | bool:
        """Return `true` for a table without keys, as the spec has it."""
        document: dict[str, Any] = serialize(self)
        return document or True


class WorkerGroup(NodeSettings):
    """A group of identical nodes: `[workers.cpu]` is `cpu-0`, `cpu-1`, …

    The group has `count` nodes, or between `min` and `max` nodes.
    """

    count: Annotated[int | None, spec_key("nothing", 20, ge=0, le=MAX_NODES)] = None
    """Number of nodes. A change adds nodes, or removes those with the highest numbers; the others do not
    change."""
    min: Annotated[int | None, spec_key("nothing", 0, ge=0, le=MAX_NODES)] = None
    """In place of `count`, with `max`: the minimum number of nodes of an elastic group. The group keeps
    its number of nodes until `scale` or `adapt` changes it; `apply` adds nodes only if there are fewer
    than `min`. Default: 0."""
    max: Annotated[int | None, spec_key("nothing", 100, ge=0, le=MAX_NODES)] = None
    """In place of `count`: the maximum number of nodes of an elastic group. `apply` removes nodes only if
    there are more."""
    adapt: Annotated[
        AdaptSettings | None,
        spec_key("nothing", True, {"target": "2 min", "idle": "5 min"}),
        *AdaptKey,
    ] = None
    """Whether `planapply watch` follows the load of this elastic group, between `min` and `max`: it launches
    nodes if the scheduler's tasks would take longer than `target`, and terminates nodes that were idle for
    `idle`. At most one group of a cluster can have it. Default: `false`.

    Without a running `watch`, the group keeps its number of nodes; `apply` and `status` warn of that.
    """
    max_unavailable: Annotated[MaxUnavailable, spec_key("nothing", 1, "25%")] = "25%"
    """Nodes that a replacement may take away at the same time: a number, or a percentage of the nodes that
    the group has, rounded up. Default: `"25%"`.

    `apply` replaces the nodes of a group in waves of this size. Each wave moves the results in the memory of
    its nodes to other workers, terminates the nodes, launches them again, and waits until they have joined.
    With `"100%"` all nodes are replaced at once, and the results in their memory are lost unless other
    groups can take them. If the scheduler is replaced, everything is.
    """
    cls: Annotated[DottedClass, spec_key("replacement", "distributed.Nanny", alias="class")] = (
        "distributed.Nanny"
    )
    """Class to run, in dotted form. Default: `distributed.Nanny`."""
    options: Annotated[
        dict[str, Any], spec_key("replacement", {"nthreads": 8, "resources": {"SSD": 1}})
    ] = {}
    """Arguments of the class. For distributed's own classes, a plan checks their names and types against
    the version that `packages` or `requirements` pin; without a pinned version it only warns."""
    processes: Annotated[int, spec_key("replacement", 4, ge=1, le=1024)] = 1
    """Number of Dask workers per node, named `cpu-0-0`, `cpu-0-1`, … They share the node's processors and
    memory evenly, unless `options` says otherwise. Default: 1."""
    environment: Annotated[
        EnvironmentSettings | None,
        spec_key("replacement", {"packages": ["dask[distributed]==2026.8.0", "torch"]}),
    ] = None
    """Environment of this group, with the keys of `[environment]`: a table `[workers.NAME.environment]`.
    A change replaces the nodes of this group only.

    The group inherits the keys of `[environment]` that it does not set itself. If it sets one of `packages`,
    `requirements`, and `docker`, it inherits none of them. Its `env` adds variables to the inherited ones, or
    changes them. Its `setup` takes the place of the inherited commands; `setup = []` runs none.

    Tasks and results move between nodes only if all have the same versions of Python and Dask: a plan warns
    if the spec says that they differ.
    """

    def format_limits(self) -> str:
        """Return the number of nodes that the spec sets, such as `count 3` or `min 0, max 8`."""
        if self.count is not None:
            return f"count {self.count}"
        return f"min {self.min or 0}, max {self.max or 0}"


class HookSettings(Model):
    """Programs of this machine that planapply runs at certain events.

    A hook is a list of words: the program and its arguments. No shell is involved, and a relative path is
    relative to the spec's folder, in which the program runs. It gets the event as JSON on stdin and in
    variables, and has 60 seconds. See [Hooks](hooks.md). Hooks are not part of a state or a saved plan.
    """

    on_node_lost: Annotated[CommandWords | None, spec_key("nothing", ["./notify.sh", "lost"])] = (
        None
    )
    """Runs if `apply`, `scale`, or `watch` finds that a VM is gone or stopped, and planapply did not do that."""
    on_applied: Annotated[CommandWords | None, spec_key("nothing", ["./notify.sh", "applied"])] = (
        None
    )
    """Runs after an `apply`, `scale`, or round of `watch` that made changes, and made all of them."""
    on_failed: Annotated[CommandWords | None, spec_key("nothing", ["./notify.sh", "failed"])] = None
    """Runs after an `apply`, `scale`, or `destroy` that began its changes, and failed or left some undone, and
    when a problem of `watch` appears."""
    before_destroy: Annotated[CommandWords | None, spec_key("nothing", ["./save-results.sh"])] = (
        None
    )
    """Runs before `destroy` removes anything. If it fails, nothing is destroyed, and the exit code is 1."""


class Spec(Model):
    """One Dask cluster, a scheduler and groups of workers, as one TOML file describes it.

    `planapply.specfile.load` returns it with the provider's settings validated, and the requirements
    file's text in place of its name.
    """

    cluster: ClusterSettings
    provider: dict[str, Any] = {}
    """The provider's settings, which its own model validates."""
    defaults: NodeSettings = NodeSettings()
    environment: EnvironmentSettings = EnvironmentSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    workers: dict[GroupName, WorkerGroup] = {}
    """Groups of workers by name. A name is 1 to 63 letters, digits, and hyphens; it begins with a letter,
    is not `scheduler`, and does not end in a hyphen and a number. Removing a group destroys its nodes.
    """
    hooks: HookSettings = HookSettings()
    """Programs of this machine, which the state and saved plans do not contain."""
    _client: ClientEnvironment | None = PrivateAttr(None)

    @property
    def client(self) -> ClientEnvironment | None:
        """Return what `"client"` stands for in the Python that read the spec; None if the nodes need none."""
        return self._client

    def with_client(self, client: ClientEnvironment | None) -> "Spec":
        """Return a copy that was read by another Python, or by none."""
        copy = self.model_copy()
        copy._client = client
        return copy

    @property
    def digest(self) -> str:
        """Return 16 hexadecimal digits of the spec without its hooks; a saved plan is valid for one digest."""
        document = self.model_dump(
            mode="json", by_alias=True, exclude_unset=True, exclude={"hooks"}
        )
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def state_location(self, spec_path: str | Path) -> str:
        """Return the location of this spec's state: a URL, or a path (if relative, to the spec's folder)."""
        return state_location(self.cluster.state, spec_path)


def state_location(state: str | None, spec_path: str | Path) -> str:
    """Return the location of the state, from a spec's `state` (or None for the default) and its path.

    Raises PlanapplyError for a URL with an unsupported scheme, for a home folder that does not exist,
    and if the spec is a folder.
    """
    spec_path = Path(spec_path)
    if state is None:
        if not spec_path.name:
            raise PlanapplyError(f"the spec {spec_path} is a folder", "Name a file.")
        # `./~x` is a file, and `~x` a home folder.
        default = str(spec_path.with_name(f"{spec_path.stem}.state.json"))
        return f"./{default}" if default.startswith("~") else default
    try:
        check_state_location(state)
    except ValueError as error:
        problem, _, hint = str(error).partition("\n")
        raise PlanapplyError(f"state {json.dumps(state)}: {problem}", hint) from None
    return state if "://" in state else str(spec_path.parent / expand_home(state))
