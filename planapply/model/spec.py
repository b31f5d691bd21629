"""The spec: what one file says about one Dask cluster.

These docstrings are the reference (`docs/spec.md`, `planapply schema`), and each key declares
once, as its effect, what changing it does to nodes that exist:

- `nothing`: no node changes, though a changed number of nodes adds or removes some;
- `update`: it is changed on the running VMs, where the provider can;
- `replacement`: another VM takes its place;
- `refusal`: the plan is an error.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from planapply.model.base import Model
from planapply.model.diagnostics import PlanapplyError
from planapply.model.field_types import (
    ClusterName,
    Commands,
    ContainerImage,
    DottedClass,
    GroupName,
    Packages,
    PythonVersion,
    Spot,
    StateLocation,
    Tags,
    Text,
    TextList,
    TextOrTextList,
    Variables,
    check_state_location,
    spec_key,
)
from planapply.model.names import MAX_NODES
from planapply.model.quantities import Duration, Size

REQUIREMENTS = ("cpus", "memory", "gpus", "arch")
"""The node settings that stand in for `size`."""


class ClusterSettings(Model):
    """The cluster as a whole."""

    name: Annotated[ClusterName, spec_key("refusal", "genomics")]
    """1 to 63 letters, digits and hyphens. Every VM carries it as a tag, so it can't change while
    the cluster exists: destroy that one first, or keep the new one in another state."""
    provider: Annotated[Text, spec_key("refusal", "ec2")] = "local"
    """Where the VMs are launched; `planapply providers` lists what is installed. Default: `local`.
    """
    state: Annotated[StateLocation | None, spec_key("nothing", "s3://bucket/genomics.json")] = None
    """Where the state is kept: a path, relative to the spec's folder, or an address that begins
    with `s3://`, `gs://` or `az://`. Default: the spec's name with `.state.json` in place of its
    suffix, beside the spec. A change moves no state: bring it there first (`planapply state pull`,
    `push`), or planapply finds none there and knows nothing of the VMs that run."""
    security: Annotated[Literal["tls", "none"] | None, spec_key("replacement", "tls")] = None
    """`tls` encrypts what nodes and clients say to each other, with a key made for this cluster;
    with `none`, whoever reaches the scheduler can run code on every node. Default: `tls` in every
    cloud, `none` for `local`. A change replaces every node."""
    idle_timeout: Annotated[Duration | None, spec_key("replacement", "30 min")] = None
    """A scheduler without work for this long ends, its VM and its workers' VMs with it.
    Default: never. A change replaces the scheduler, and so every node."""
    ttl: Annotated[Duration | None, spec_key("replacement", "12 h")] = None
    """VMs of this age terminate themselves, whatever happens. Default: never. A change replaces
    every node."""
    max_cost: Annotated[float | None, spec_key("nothing", 40.0, gt=0)] = None
    """USD an hour; a plan for a cluster that costs more is an error. Default: no limit.

    Where a price is not known, the plan warns, and counts the rest.
    """
    join_timeout: Annotated[Duration, spec_key("nothing", "10 min")] = 600.0
    """How long `apply` waits for a launched node to join the scheduler. Default: 10 minutes."""
    tags: Annotated[Tags, spec_key("update", {"team": "bio"})] = {}
    """On every VM and supporting resource."""
    protect: Annotated[bool, spec_key("nothing", True)] = False
    """A plan that would destroy or replace anything is refused. Default: `false`.

    An elastic group still shrinks under `scale` and `adapt`, within `min` and `max`: that is what it is
    for. An `apply` that would shrink it, since `max` was lowered, is refused: there it would be the
    side effect of an edit, which `protect` is against.
    """


class NodeSettings(Model):
    """What a VM is: for the scheduler and every group, where they do not say otherwise."""

    size: Annotated[
        TextOrTextList, spec_key("replacement", "m7i.large", ["m7i.large", "m6i.large"])
    ] = ()
    """The cloud's name for the VM's type, or a list of such, tried in this order where the cloud
    has no more of one. A VM whose size is on the changed list stays. Default: the provider's."""
    cpus: Annotated[int | None, spec_key("replacement", 8, ge=1, le=10_000)] = None
    """In place of `size`: the fewest virtual CPUs. The cheapest sizes that have what `cpus`,
    `memory`, `gpus` and `arch` ask for are chosen when planned, and then kept."""
    memory: Annotated[Size | None, spec_key("replacement", "32 GiB")] = None
    """In place of `size`: the least memory."""
    gpus: Annotated[int | None, spec_key("replacement", 1, ge=1, le=1000)] = None
    """In place of `size`: the fewest GPUs."""
    arch: Annotated[Literal["x86_64", "arm64"] | None, spec_key("replacement", "arm64")] = None
    """In place of `size`: the processor's architecture."""
    image: Annotated[Text | None, spec_key("replacement", "ami-0123456789abcdef0")] = None
    """The cloud's id of the image that the VM boots. Default: the provider's, a current Debian."""
    zones: Annotated[TextList, spec_key("replacement", ["eu-west-1a", "eu-west-1b"])] = ()
    """Where the VM may be, tried in this order. Default: anywhere in the region."""
    spot: Annotated[Spot, spec_key("replacement", "prefer")] = False
    """Spot VMs, which cost less and can be taken away: `false`, `true`, or `"prefer"` for spot
    where it can be had and on demand elsewhere. Default: `false`."""
    disk: Annotated[Size | None, spec_key("replacement", "100 GiB")] = None
    """The size of the root disk. Default: the image's."""
    create: Annotated[
        dict[str, Any], spec_key("replacement", {"ex_metadata": {"team": "bio"}})
    ] = {}
    """For the provider `libcloud`: more arguments for its `create_node`."""
    tags: Annotated[Tags, spec_key("update", {"stage": "test"})] = {}
    """On the VM, besides those of the cluster and of `[defaults]`."""


class EnvironmentSettings(Model):
    """What Python runs on the nodes; a change here replaces them.

    One of `packages`, `requirements` and `docker`; with none of them, the image has all that Dask
    needs.
    """

    python: Annotated[PythonVersion | None, spec_key("replacement", "3.12")] = None
    """The version of Python in which `packages` or `requirements` are installed. Default: that
    which runs planapply with `packages = "client"`, else the image's."""
    packages: Annotated[
        Packages | None,
        spec_key("replacement", ["dask[distributed]==2026.8.0", "pandas"], "client"),
    ] = None
    """What to install, as pip takes it; or `"client"`: what the Python has that runs planapply, in
    the same versions."""
    requirements: Annotated[Text | None, spec_key("replacement", "requirements.txt")] = None
    """A file of what to install, as pip takes it, relative to the spec's folder. A change of what
    is in it is the change that counts."""
    docker: Annotated[ContainerImage | None, spec_key("replacement", "daskdev/dask:latest")] = None
    """A container image in which the Dask processes run, as `docker pull` takes it."""
    env: Annotated[Variables, spec_key("replacement", {"OMP_NUM_THREADS": "1"})] = {}
    """Environment variables of the Dask processes."""
    setup: Annotated[Commands, spec_key("replacement", ["apt-get install -y graphviz"])] = ()
    """Shell commands, run as root on the VM before Dask starts; where one fails, Dask does not
    start."""


class SchedulerSettings(NodeSettings):
    """The scheduler; a replaced one replaces every node."""

    cls: Annotated[DottedClass, spec_key("replacement", "distributed.Scheduler", alias="class")] = (
        "distributed.Scheduler"
    )
    """The class to run, in dotted form. Default: `distributed.Scheduler`."""
    options: Annotated[dict[str, Any], spec_key("replacement", {"dashboard": False})] = {}
    """Its arguments."""


class WorkerGroup(NodeSettings):
    """A group of equal nodes: `[workers.cpu]` is `cpu-0`, `cpu-1`, …

    It has `count` nodes, or between `min` and `max` of them.
    """

    count: Annotated[int | None, spec_key("nothing", 20, ge=0, le=MAX_NODES)] = None
    """How many nodes. A change adds nodes, or removes those of the highest numbers; the others stay
    as they are."""
    min: Annotated[int | None, spec_key("nothing", 0, ge=0, le=MAX_NODES)] = None
    """In place of `count`, with `max`: the fewest nodes of an elastic group, which keeps the nodes
    it has until `scale` or `adapt` moves it. Default: 0. Nodes are added only
    where there are fewer."""
    max: Annotated[int | None, spec_key("nothing", 100, ge=0, le=MAX_NODES)] = None
    """In place of `count`: the most nodes of an elastic group. Nodes are removed only where there
    are more."""
    cls: Annotated[DottedClass, spec_key("replacement", "distributed.Nanny", alias="class")] = (
        "distributed.Nanny"
    )
    """The class to run, in dotted form. Default: `distributed.Nanny`."""
    options: Annotated[
        dict[str, Any], spec_key("replacement", {"nthreads": 8, "resources": {"SSD": 1}})
    ] = {}
    """Its arguments."""
    processes: Annotated[int, spec_key("replacement", 4, ge=1, le=1024)] = 1
    """How many Dask workers a node runs, called `cpu-0-0`, `cpu-0-1`, … They share its processors
    and its memory evenly where `options` does not say otherwise. Default: 1."""


class Spec(Model):
    """One TOML file; one Dask cluster: a scheduler and groups of workers.

    `planapply.specfile.load` gives it with the provider's settings validated, the requirements
    file's text in place of its name, and a list in place of `packages = "client"`.
    """

    cluster: ClusterSettings
    provider: dict[str, Any] = {}
    """The provider's own settings."""
    defaults: NodeSettings = NodeSettings()
    environment: EnvironmentSettings = EnvironmentSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    workers: dict[GroupName, WorkerGroup] = {}
    """The groups of workers by name: 1 to 63 letters, digits and hyphens, beginning with a letter,
    not `scheduler`, not ending in a hyphen and a number. A group that is taken out loses its
    nodes."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of all that the spec says: a saved plan is good for one digest."""
        document = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def state_location(self, spec_path: str | Path) -> str:
        """Where this spec's state is: a path (relative ones seen from the spec's folder), or an
        address."""
        return state_location(self.cluster.state, spec_path)


def state_location(state: str | None, spec_path: str | Path) -> str:
    """As `Spec.state_location`, for a `state` that may come from elsewhere.

    Raises PlanapplyError for an address of no known kind, and for a spec that is a folder.
    """
    spec_path = Path(spec_path)
    if state is None:
        if not spec_path.name:
            raise PlanapplyError(f"the spec {spec_path} is a folder", "Name a file.")
        return str(spec_path.with_name(f"{spec_path.stem}.state.json"))
    try:
        check_state_location(state)
    except ValueError as error:
        problem, _, hint = str(error).partition("\n")
        raise PlanapplyError(f"state {json.dumps(state)}: {problem}", hint) from None
    return state if "://" in state else str(spec_path.parent / Path(state).expanduser())
