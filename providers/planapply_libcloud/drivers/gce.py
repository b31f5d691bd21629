"""Google Compute Engine.

Labels take small letters, digits, hyphens and underscores only, 63 of them: they are for people and
bills. What planapply reads again, whole, is one item of the instance's metadata.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planapply.model.node import TAG_PREFIX
from planapply.provider import ErrorKind
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Catalog, LaunchRequest
from planapply_libcloud.drivers.full import AMONG_THEMSELVES, SELF, FullDriver, Group, Rule
from planapply_libcloud.nested import merged

ITEM = "planapply"
IMAGES = "https://www.googleapis.com/compute/v1/projects/{}/global/images/family/{}"
STARTER = """\
[provider]
driver = "gce"
key = "planapply@my-project.iam.gserviceaccount.com"
secret = "service-account.json"       # its key file; or "env:NAME", with the key or the file's path
# allow_from = ["203.0.113.0/24"]     # who may reach the scheduler: firewall rules are made for it
options = { project = "my-project", datacenter = "europe-west1-b" }
# create = { ex_network = "default", ex_subnetwork = "dask" }

[defaults]
size = "e2-standard-2"
image = "debian-cloud/debian-12"      # PROJECT/FAMILY, or the name of one of your project's images

[environment]                         # what Python runs on the nodes; a change replaces them
packages = "client"                   # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
"""


@dataclass(frozen=True)
class Labels(labels.Pairs):
    """As near to the tags as they come."""

    def written(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {_label(k.replace(TAG_PREFIX, "planapply_")): _label(v) for k, v in tags.items()}


@dataclass(frozen=True)
class GCE(FullDriver):
    """Its create waits for the zone's operation, so that what it gives is there."""

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        own = super().arguments(request, create, catalog)
        return merged(own, {"ex_metadata": self._item(request.tags)})

    def _item(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {ITEM: json.dumps(dict(tags), separators=(",", ":"))}

    def tags_of(self, node: Any) -> dict[str, str]:
        text = _metadata(node).get(ITEM, "")
        try:
            tags = json.loads(text) if text else {}
        except ValueError:
            return {}
        return labels.PAIRS.read(tags)

    def status_of(self, node: Any) -> str:
        # Libcloud has "pending" for STOPPING, and "stopped" for what is TERMINATED and there still.
        return "stopping" if node.extra.get("status") == "STOPPING" else str(node.state)

    def is_spot(self, node: Any) -> bool:
        return bool((node.extra.get("scheduling") or {}).get("preemptible"))

    def size_of(self, node: Any) -> str | None:
        return str(node.extra.get("machineType") or "").rpartition("/")[2] or None

    def nodes(self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]) -> Sequence[Any]:
        nodes: Sequence[Any] = lib.list_nodes(ex_zone="all")
        return nodes

    def image(self, lib: Any, name: str) -> Any:
        project, slash, family = name.partition("/")
        if slash and "/" not in family and ":" not in project:
            name = IMAGES.format(project, family)
        return lib.ex_get_image(name)

    def console(self, lib: Any, id: str) -> str:
        node = next((n for n in lib.list_nodes(ex_zone="all") if str(n.id) == id), None)
        return str(lib.ex_get_serial_output(node)) if node else ""

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        lib.ex_set_node_metadata(node, {**_metadata(node), **self._item(tags)})
        lib.ex_set_node_labels(node, self.tag_form.written(tags))

    def groups(self, lib: Any) -> Iterable[Group]:
        """A cluster's firewall rules: one among its nodes, one for its clients."""
        found = {firewall.name: firewall for firewall in lib.ex_list_firewalls()}
        for name, nodes in found.items():
            if not name.endswith("-nodes") or not nodes.extra.get("description"):
                continue
            id = name.removesuffix("-nodes")
            rules = {AMONG_THEMSELVES}
            clients = found.get(f"{id}-clients")
            if clients is not None:
                for allowed in clients.allowed or ():
                    for port in allowed.get("ports", ()):
                        first, _, last = str(port).partition("-")
                        for who in clients.source_ranges or ():
                            rules.add((allowed["IPProtocol"], int(first), int(last or first), who))
            yield Group(id, nodes.extra["description"], frozenset(rules))

    def make_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        word, cluster, lineage = name.split(" ")
        digest = labels.lineage_digest(lineage)
        id = f"{word}-{re.sub(r'[^a-z0-9]+', '-', cluster.lower())[:30].strip('-')}-{digest}"
        lib.ex_create_firewall(
            f"{id}-nodes",
            [{"IPProtocol": "all"}],
            network=create.get("ex_network", "default"),
            source_tags=[id],
            target_tags=[id],
            description=name,
        )
        return id

    def change_group(
        self, lib: Any, group: Group, more: Iterable[Rule], less: Iterable[Rule]
    ) -> None:
        rules = {r for r in (group.rules | set(more)) - set(less) if r[3] != SELF}
        name = f"{group.id}-clients"
        old = next((f for f in lib.ex_list_firewalls() if f.name == name), None)
        allowed = [
            {
                "IPProtocol": protocol,
                "ports": sorted({str(r[1]) for r in rules if r[0] == protocol}),
            }
            for protocol in sorted({r[0] for r in rules})
        ]
        networks = sorted({r[3] for r in rules})
        if old is not None and not rules:
            lib.ex_destroy_firewall(old)
        elif old is not None:
            old.allowed, old.source_ranges = allowed, networks
            lib.ex_update_firewall(old)
        elif rules:
            nodes = next(f for f in lib.ex_list_firewalls() if f.name == f"{group.id}-nodes")
            lib.ex_create_firewall(
                name,
                allowed,
                network=nodes.network,
                source_ranges=networks,
                target_tags=[group.id],
                description=group.name,
            )

    def remove_group(self, lib: Any, id: str) -> None:
        names = [f"{id}-clients", f"{id}-nodes"]  # the second is what `groups` finds it by
        for firewall in sorted(lib.ex_list_firewalls(), key=lambda firewall: firewall.name):
            if firewall.name in names:
                lib.ex_destroy_firewall(firewall)

    def in_group(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_tags": [id]}

    def join_group(self, lib: Any, node: Any, id: str) -> None:
        if id not in node.extra["tags"]:
            lib.ex_set_node_tags(node, [*node.extra["tags"], id])


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower())[:63]


def _metadata(node: Any) -> dict[str, str]:
    items = (node.extra.get("metadata") or {}).get("items") or []
    return {item["key"]: item["value"] for item in items}


GCE_DRIVER = GCE(
    name="gce",
    title="Google Compute Engine",
    proof="the driver's requests, checked against Google's API reference",
    starter=STARTER,
    public_key=True,
    has_sessions=True,
    secret_file=True,
    # Not to a file in the home folder, where it would be kept otherwise.
    options={"credential_file": "/dev/null"},
    identity=("project",),
    user_data="ex_metadata.startup-script",
    user_data_limit=262144,
    tags="ex_labels",
    tag_form=Labels(most=64),
    zone="location",
    seen_zone="zone",
    spot={
        "ex_preemptible": True,
        "ex_automatic_restart": False,
        "ex_on_host_maintenance": "TERMINATE",
    },
    lists=("ex_tags",),
    disk="ex_disk_size",
    parallel=8,
    off_costs="costs its disk only",
    prices="libcloud",
    destroys_by_id=False,
    definite={
        "ZONE_RESOURCE_POOL_EXHAUSTED": ErrorKind.CAPACITY,
        "STOCKOUT": ErrorKind.CAPACITY,
        "QUOTA_EXCEEDED": ErrorKind.QUOTA,
        "quotaExceeded": ErrorKind.QUOTA,
        "rateLimitExceeded": ErrorKind.THROTTLED,
    },
    group_kind="firewall",
)
