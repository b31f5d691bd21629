"""OpenStack, through Nova and Neutron; most public and private clouds that run it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply_libcloud import labels
from planapply_libcloud.drivers.base import Catalog, LaunchRequest
from planapply_libcloud.drivers.full import AMONG_THEMSELVES, SELF, FullDriver, Group, Rule

STARTER = """\
[provider]
driver = "openstack"
key = "env:OS_USERNAME"               # names of environment variables, as openrc files set them
secret = "env:OS_PASSWORD"
# allow_from = ["203.0.113.0/24"]     # who may reach the scheduler: a security group is made for it

[provider.options]
ex_force_auth_url = "https://cloud.example.com:5000"
ex_tenant_name = "my-project"
ex_force_service_region = "RegionOne"
# ex_domain_name = "Default"

[provider.create]
networks = ["private"]                # names or ids

[defaults]
size = "m1.medium"                    # a flavor, by name or id
image = "debian-12"                   # by name or id; cloud-init has to be in it

[environment]                         # what Python runs on the nodes; a change replaces them
packages = "client"                   # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
"""


@dataclass(frozen=True)
class OpenStack(FullDriver):
    """Tags are the server's metadata."""

    def arguments(self, request: LaunchRequest, create: Mapping[str, Any], catalog: Catalog) -> Any:
        create = dict(create)
        if "ex_security_groups" in create:
            # Nova takes names and ids alike, and the driver asks for no more than this.
            create["ex_security_groups"] = [_named(n) for n in create["ex_security_groups"]]
        return super().arguments(request, create, catalog)

    def zones(self, lib: Any) -> Sequence[str]:
        # The driver has no method for it.
        zones = lib.connection.request("/os-availability-zone").object["availabilityZoneInfo"]
        return [zone["zoneName"] for zone in zones]

    def networks(self, lib: Any) -> Sequence[Any]:
        networks: Sequence[Any] = lib.ex_list_networks()
        return networks

    def status_of(self, node: Any) -> str:
        # A server that is being deleted shows its old status to the end.
        return "stopping" if node.extra.get("task_state") == "deleting" else str(node.state)

    def size_of(self, node: Any) -> str | None:
        details = node.extra.get("flavor_details") or {}
        found = node.extra.get("flavorId") or details.get("original_name")  # by the API's version
        return str(found) if found else None

    def console(self, lib: Any, id: str) -> str:
        node = lib.ex_get_node_details(id)
        if node is None:
            return ""
        # A server that could not be placed has printed nothing, and says here why.
        fault = (node.extra.get("fault") or {}).get("message", "")
        if fault:
            return str(fault)
        return str(lib.ex_get_console_output(node).get("output") or "")

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        lib.ex_set_metadata(node, dict(tags))

    def groups(self, lib: Any) -> Iterable[Group]:
        for group in lib.ex_list_security_groups():
            rules = frozenset(rule for r in group.rules if (rule := _rule(group.id, r)))
            yield Group(str(group.id), group.name, rules)

    def make_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        return str(lib.ex_create_security_group(name, "Dask cluster made by planapply").id)

    def change_group(
        self, lib: Any, group: Group, more: Iterable[Rule], less: Iterable[Rule]
    ) -> None:
        found = next(g for g in lib.ex_list_security_groups() if str(g.id) == group.id)
        for protocol, first, last, who in more:
            lib.ex_create_security_group_rule(
                found,
                None if protocol == "any" else protocol,
                first or None,
                last or None,
                cidr=None if who == SELF else who,
                source_security_group=found if who == SELF else None,
            )
        gone = set(less)
        for rule in found.rules:
            if _rule(group.id, rule) in gone:
                lib.ex_delete_security_group_rule(rule)

    def remove_group(self, lib: Any, id: str) -> None:
        lib.ex_delete_security_group(SimpleNamespace(id=id))

    def members(self, lib: Any, group: Group) -> Sequence[str]:
        # The driver's nodes don't say, and asking for each is a call a server.
        servers = lib.connection.request("/servers/detail").object["servers"]
        return [
            f"{server['name']} ({server['id']})"
            for server in servers
            if any(its["name"] == group.name for its in server.get("security_groups", ()))
        ]

    def in_group(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_security_groups": [id]}

    def join_group(self, lib: Any, node: Any, id: str) -> None:
        if id not in _groups_of(lib, node):
            _add(lib, node, id)

    def leave_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        groups = _groups_of(lib, node)
        if id not in groups:
            return
        if groups == {id}:  # without any, nobody reaches it
            for name in create.get("ex_security_groups", ["default"]):
                _add(lib, node, name)
        lib.ex_remove_security_group_from_node(_named(id), node)


def _add(lib: Any, node: Any, group: Any) -> None:
    # The driver has a method for the way back only.
    data = {"addSecurityGroup": {"name": group}}
    lib.connection.request(f"/servers/{node.id}/action", method="POST", data=data)


def _groups_of(lib: Any, node: Any) -> set[str]:
    return {str(group.id) for group in lib.ex_get_node_security_groups(node)}


def _named(name: Any) -> Any:
    return SimpleNamespace(name=name, id=name)


def _rule(group: str, rule: Any) -> Rule | None:
    """As the table has it; None for what Neutron puts there itself, such as a way out."""
    if rule.group is None and rule.ip_range is None:
        return None
    if rule.group is not None:
        return AMONG_THEMSELVES if str(rule.group) == str(group) else None
    return (
        str(rule.ip_protocol or "any"),
        int(rule.from_port or 0),
        int(rule.to_port or 0),
        str(rule.ip_range),
    )


OPENSTACK = OpenStack(
    name="openstack",
    title="OpenStack",
    proof="Nova itself (API, scheduler, conductor, compute), with its fake hypervisor",
    starter=STARTER,
    public_key=True,
    has_sessions=True,
    options={"api_version": "2.2"},
    identity=("ex_tenant_name", "ex_force_service_region", "ex_force_auth_url"),
    user_data="ex_userdata",
    takes_bytes=True,
    user_data_limit=49152,  # 65535 as base64
    tags="ex_metadata",
    tag_form=labels.Pairs(keys=r"[a-zA-Z0-9_:. -]{1,255}", most=128),
    seen_tags="metadata",
    zone="ex_availability_zone",
    named_networks="networks",
    lists=("networks", "ex_security_groups", "ex_blockdevicemappings"),
    seen_zone="availability_zone",
    sizes_by_id=True,
    longest_name=63,
    parallel=8,
    settle=30.0,
    poll=1.0,
    definite={
        # While it is being built.
        "while it is in": ErrorKind.UNAVAILABLE,
        "is not ready": ErrorKind.UNAVAILABLE,
    },
)
