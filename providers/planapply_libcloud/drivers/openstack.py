"""Driver for OpenStack clouds, public and private, through Nova and Neutron."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply.providerkit import STARTER_ENVIRONMENT, Rule
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import LaunchRequest, Lookups
from planapply_libcloud.drivers.full import INTERNAL_RULE, SELF, FullDriver, Group

STARTER = f"""\
[provider]
driver = "openstack"
key = "env:OS_USERNAME"               # names of environment variables, as in openrc files
secret = "env:OS_PASSWORD"
# allow_from = ["203.0.113.0/24"]     # networks that may reach the scheduler

[provider.options]
ex_force_auth_url = "https://cloud.example.com:5000"
ex_tenant_name = "my-project"
ex_force_service_region = "RegionOne"
# ex_domain_name = "Default"

[provider.create]
networks = ["private"]                # names or IDs

[defaults]
size = "m1.medium"                    # a flavor, by name or ID
image = "debian-12"                   # by name or ID; it must have cloud-init

{STARTER_ENVIRONMENT}"""


@dataclass(frozen=True)
class OpenStack(FullDriver):
    """Driver that stores tags in the server's metadata."""

    def make_arguments(
        self, request: LaunchRequest, create: Mapping[str, Any], lookups: Lookups
    ) -> Any:
        create = dict(create)
        if "ex_security_groups" in create:
            # Nova accepts names and IDs, and the driver needs no other attributes.
            create["ex_security_groups"] = [_make_named(n) for n in create["ex_security_groups"]]
        return super().make_arguments(request, create, lookups)

    def list_zones(self, lib: Any) -> Sequence[str]:
        # The driver has no method for this.
        zones = lib.connection.request("/os-availability-zone").object["availabilityZoneInfo"]
        return [zone["zoneName"] for zone in zones]

    def list_networks(self, lib: Any) -> Sequence[Any]:
        networks: Sequence[Any] = lib.ex_list_networks()
        return networks

    def status_of(self, node: Any) -> str:
        # A server that is being deleted keeps its status until it is gone.
        return "stopping" if node.extra.get("task_state") == "deleting" else str(node.state)

    def size_of(self, node: Any) -> str | None:
        details = node.extra.get("flavor_details") or {}
        found = node.extra.get("flavorId") or details.get(
            "original_name"
        )  # depends on the API's version
        return str(found) if found else None

    def console(self, lib: Any, id: str) -> str:
        node = lib.ex_get_node_details(id)
        if node is None:
            return ""
        # A server that could not be scheduled has no output, but the reason.
        fault = (node.extra.get("fault") or {}).get("message", "")
        if fault:
            return str(fault)
        return str(lib.ex_get_console_output(node).get("output") or "")

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        lib.ex_set_metadata(node, dict(tags))

    def list_groups(self, lib: Any) -> Iterable[Group]:
        for group in lib.ex_list_security_groups():
            rules = frozenset(rule for r in group.rules if (rule := _parse_rule(group.id, r)))
            yield Group(str(group.id), group.name, rules)

    def create_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        return str(lib.ex_create_security_group(name, "Dask cluster made by planapply").id)

    def change_group(
        self, lib: Any, group: Group, added: Iterable[Rule], removed: Iterable[Rule]
    ) -> None:
        found = next(g for g in lib.ex_list_security_groups() if str(g.id) == group.id)
        for protocol, first, last, source in added:
            lib.ex_create_security_group_rule(
                found,
                None if protocol == "any" else protocol,
                first or None,
                last or None,
                cidr=None if source == SELF else source,
                source_security_group=found if source == SELF else None,
            )
        removed_rules = set(removed)
        for rule in found.rules:
            if _parse_rule(group.id, rule) in removed_rules:
                lib.ex_delete_security_group_rule(rule)

    def remove_group(self, lib: Any, id: str) -> None:
        lib.ex_delete_security_group(SimpleNamespace(id=id))

    def list_members(self, lib: Any, group: Group) -> Sequence[str]:
        # The driver's nodes do not show it, and one request per server would be needed.
        servers = lib.connection.request("/servers/detail").object["servers"]
        return [
            f"{server['name']} ({server['id']})"
            for server in servers
            if any(
                server_group["name"] == group.name
                for server_group in server.get("security_groups", ())
            )
        ]

    def group_arguments(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_security_groups": [id]}

    def add_to_group(self, lib: Any, node: Any, id: str) -> None:
        if id not in _list_groups_of(lib, node):
            _add_to_group(lib, node, id)

    def remove_from_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        groups = _list_groups_of(lib, node)
        if id not in groups:
            return
        if groups == {id}:  # without a group, the server cannot be reached
            for name in create.get("ex_security_groups", ["default"]):
                _add_to_group(lib, node, name)
        lib.ex_remove_security_group_from_node(_make_named(id), node)


def _add_to_group(lib: Any, node: Any, group: Any) -> None:
    # The driver has a method only for removal.
    data = {"addSecurityGroup": {"name": group}}
    lib.connection.request(f"/servers/{node.id}/action", method="POST", data=data)


def _list_groups_of(lib: Any, node: Any) -> set[str]:
    return {str(group.id) for group in lib.ex_get_node_security_groups(node)}


def _make_named(name: Any) -> Any:
    return SimpleNamespace(name=name, id=name)


def _parse_rule(group: str, rule: Any) -> Rule | None:
    """Return the rule; None for rules that Neutron creates itself, such as egress rules."""
    if rule.group is None and rule.ip_range is None:
        return None
    if rule.group is not None:
        return INTERNAL_RULE if str(rule.group) == str(group) else None
    return (
        str(rule.ip_protocol or "any"),
        int(rule.from_port or 0),
        int(rule.to_port or 0),
        str(rule.ip_range),
    )


OPENSTACK = OpenStack(
    name="openstack",
    title="OpenStack",
    tested_on="Nova itself (API, scheduler, conductor, compute), with its fake hypervisor",
    starter=STARTER,
    is_key_public=True,
    has_sessions=True,
    options={"api_version": "2.2"},
    identity=("ex_tenant_name", "ex_force_service_region", "ex_force_auth_url"),
    user_data="ex_userdata",
    has_binary_user_data=True,
    user_data_limit=49152,  # 65535 as base64
    tags="ex_metadata",
    tag_format=labels.TagPairs(key_pattern=r"[a-zA-Z0-9_:. -]{1,255}", max_tags=128),
    tags_path="metadata",
    zone="ex_availability_zone",
    networks_argument="networks",
    list_arguments=("networks", "ex_security_groups", "ex_blockdevicemappings"),
    zone_path="availability_zone",
    has_only_size_id=True,
    max_name_length=63,
    parallel=8,
    consistency_delay=30.0,
    poll=1.0,
    error_kinds={
        # The server is being built.
        "while it is in": ErrorKind.UNAVAILABLE,
        "is not ready": ErrorKind.UNAVAILABLE,
    },
)
