"""Driver for Google Compute Engine.

Labels allow only lowercase letters, digits, hyphens, and underscores, at most 63: they are for people
and bills. planapply reads its tags from one item of the instance's metadata.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planapply.provider import ErrorKind
from planapply.providerkit import STARTER_ENVIRONMENT, TAG_PREFIX, Rule
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import LaunchRequest, Lookups
from planapply_libcloud.drivers.full import INTERNAL_RULE, SELF, FullDriver, Group
from planapply_libcloud.nested import merge

ITEM = "planapply"
IMAGES = "https://www.googleapis.com/compute/v1/projects/{}/global/images/family/{}"
STARTER = f"""\
[provider]
driver = "gce"
key = "planapply@my-project.iam.gserviceaccount.com"
secret = "service-account.json"       # its key file; or "env:NAME", for the key or the file's path
# allow_from = ["203.0.113.0/24"]     # networks that may reach the scheduler
options = {{ project = "my-project", datacenter = "europe-west1-b" }}
# create = {{ ex_network = "default", ex_subnetwork = "dask" }}

[defaults]
size = "e2-standard-2"
image = "debian-cloud/debian-12"      # PROJECT/FAMILY, or the name of one of your project's images

{STARTER_ENVIRONMENT}"""


@dataclass(frozen=True)
class GCELabels(labels.TagPairs):
    """Labels that resemble the tags as closely as possible."""

    def encode(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {
            _make_label(k.replace(TAG_PREFIX, "planapply_")): _make_label(v)
            for k, v in tags.items()
        }


@dataclass(frozen=True)
class GCE(FullDriver):
    """Driver whose create waits for the zone's operation, so that the VM exists afterwards."""

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        arguments = super().make_arguments(request, create, lookups)
        return merge(arguments, {"ex_metadata": self._make_item(request.tags)})

    def _make_item(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {ITEM: json.dumps(dict(tags), separators=(",", ":"))}

    def tags_of(self, node: Any) -> dict[str, str]:
        text = _read_metadata(node).get(ITEM, "")
        try:
            tags = json.loads(text) if text else {}
        except ValueError:
            return {}
        return labels.PAIRS.decode(tags)

    def status_of(self, node: Any) -> str:
        # Libcloud reports STOPPING as "pending", and TERMINATED, which still exists, as "stopped".
        return "stopping" if node.extra.get("status") == "STOPPING" else str(node.state)

    def is_spot(self, node: Any) -> bool:
        return bool((node.extra.get("scheduling") or {}).get("preemptible"))

    def size_of(self, node: Any) -> str | None:
        return str(node.extra.get("machineType") or "").rpartition("/")[2] or None

    def list_nodes(
        self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]
    ) -> Sequence[Any]:
        nodes: Sequence[Any] = lib.list_nodes(ex_zone="all")
        return nodes

    def find_image(self, lib: Any, name: str) -> Any:
        project, slash, family = name.partition("/")
        if slash and "/" not in family and ":" not in project:
            name = IMAGES.format(project, family)
        return lib.ex_get_image(name)

    def console(self, lib: Any, id: str) -> str:
        node = next((n for n in lib.list_nodes(ex_zone="all") if str(n.id) == id), None)
        return str(lib.ex_get_serial_output(node)) if node else ""

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        lib.ex_set_node_metadata(node, {**_read_metadata(node), **self._make_item(tags)})
        lib.ex_set_node_labels(node, self.tag_format.encode(tags))

    def list_groups(self, lib: Any) -> Iterable[Group]:
        """Yield the firewall rules of each cluster: one between its nodes, one for its clients."""
        found = {firewall.name: firewall for firewall in lib.ex_list_firewalls()}
        for name, nodes in found.items():
            if not name.endswith("-nodes") or not nodes.extra.get("description"):
                continue
            id = name.removesuffix("-nodes")
            rules = {INTERNAL_RULE}
            clients = found.get(f"{id}-clients")
            if clients is not None:
                for allowed in clients.allowed or ():
                    for port in allowed.get("ports", ()):
                        first, _, last = str(port).partition("-")
                        for source in clients.source_ranges or ():
                            rules.add(
                                (allowed["IPProtocol"], int(first), int(last or first), source)
                            )
            yield Group(id, nodes.extra["description"], frozenset(rules))

    def create_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        prefix, cluster, lineage = name.split(" ")
        digest = labels.lineage_digest(lineage)
        id = f"{prefix}-{re.sub(r'[^a-z0-9]+', '-', cluster.lower())[:30].strip('-')}-{digest}"
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
        self, lib: Any, group: Group, added: Iterable[Rule], removed: Iterable[Rule]
    ) -> None:
        rules = {r for r in (group.rules | set(added)) - set(removed) if r[3] != SELF}
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
        names = [f"{id}-clients", f"{id}-nodes"]  # `list_groups` finds the group by the second
        for firewall in sorted(lib.ex_list_firewalls(), key=lambda firewall: firewall.name):
            if firewall.name in names:
                lib.ex_destroy_firewall(firewall)

    def group_arguments(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_tags": [id]}

    def add_to_group(self, lib: Any, node: Any, id: str) -> None:
        if id not in node.extra["tags"]:
            lib.ex_set_node_tags(node, [*node.extra["tags"], id])


def _make_label(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower())[:63]


def _read_metadata(node: Any) -> dict[str, str]:
    items = (node.extra.get("metadata") or {}).get("items") or []
    return {item["key"]: item["value"] for item in items}


GCE_DRIVER = GCE(
    name="gce",
    title="Google Compute Engine",
    tested_on="the driver's requests, checked against Google's API reference",
    starter=STARTER,
    is_key_public=True,
    has_sessions=True,
    has_secret_file=True,
    # Otherwise the driver would keep the token in a file in the home folder.
    options={"credential_file": "/dev/null"},
    identity=("project",),
    user_data="ex_metadata.startup-script",
    user_data_limit=262144,
    tags="ex_labels",
    tag_format=GCELabels(max_tags=64),
    zone="location",
    zone_path="zone",
    spot={
        "ex_preemptible": True,
        "ex_automatic_restart": False,
        "ex_on_host_maintenance": "TERMINATE",
    },
    list_arguments=("ex_tags",),
    disk="ex_disk_size",
    parallel=8,
    cost_when_off="costs as much as its disk",
    price_source="libcloud",
    is_destroyed_by_id=False,
    error_kinds={
        "ZONE_RESOURCE_POOL_EXHAUSTED": ErrorKind.CAPACITY,
        "STOCKOUT": ErrorKind.CAPACITY,
        "QUOTA_EXCEEDED": ErrorKind.QUOTA,
        "quotaExceeded": ErrorKind.QUOTA,
        "rateLimitExceeded": ErrorKind.THROTTLED,
    },
    group_kind="firewall",
)
