"""Amazon EC2, for those who have it beside other clouds of Libcloud's; alone, `ec2` does more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.model.node import TAG_PREFIX
from planapply.provider import ErrorKind
from planapply_libcloud.drivers.full import AMONG_THEMSELVES, SELF, FullDriver, Group, Rule

STARTER = """\
[provider]
driver = "ec2"                        # the provider `ec2` does more: planapply init --provider ec2
key = "env:AWS_ACCESS_KEY_ID"
secret = "env:AWS_SECRET_ACCESS_KEY"
# allow_from = ["203.0.113.0/24"]     # who may reach the scheduler: a security group is made for it
options = { region = "eu-west-1" }

[defaults]
size = "m7i.large"
image = "ami-0123456789abcdef0"       # one with cloud-init
"""


@dataclass(frozen=True)
class EC2(FullDriver):
    """Its driver asks for everything by GET."""

    def status_of(self, node: Any) -> str:
        # Libcloud's own word for shutting-down is "unknown".
        status = node.extra.get("status")
        return "stopping" if status == "shutting-down" else str(status or node.state)

    def is_spot(self, node: Any) -> bool:
        return bool(node.extra.get("instance_lifecycle") == "spot")

    def account(self, lib: Any) -> dict[str, str]:
        groups = lib.ex_get_security_groups(group_names=["default"])
        return {"account": str(groups[0].extra["owner_id"])} if groups else {}

    def image(self, lib: Any, name: str) -> Any:
        found = lib.list_images(ex_image_ids=[name])
        return found[0] if found else None

    def nodes(self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]) -> Sequence[Any]:
        filters = {f"tag:{key}": value for key, value in tags.items()}
        alive = ["pending", "running", "shutting-down", "stopping", "stopped"]
        nodes: Sequence[Any] = lib.list_nodes(
            ex_filters={"instance-state-name": alive, "tag-key": f"{TAG_PREFIX}*", **filters}
        )
        return nodes

    def arguments(self, request: Any, create: Mapping[str, Any], catalog: Any) -> Any:
        create = dict(create)
        if isinstance(create.get("ex_subnet"), str):
            create["ex_subnet"] = SimpleNamespace(id=create["ex_subnet"])
        elif "ex_security_group_ids" in create:
            # The driver takes ids with a subnet only; EC2 takes them without as well, as names.
            create["ex_security_groups"] = create.pop("ex_security_group_ids")
        return super().arguments(request, create, catalog)

    def console(self, lib: Any, id: str) -> str:
        return str(lib.ex_get_console_output(SimpleNamespace(id=id)).get("output") or "")

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        # The driver's own calls count from 0, which EC2 does not.
        _change_tags(lib, "CreateTags", node.id, dict(tags))
        if removed:
            _change_tags(lib, "DeleteTags", node.id, dict.fromkeys(removed))

    def groups(self, lib: Any) -> Iterable[Group]:
        for group in lib.ex_get_security_groups():
            rules = frozenset(
                rule for r in group.ingress_rules for rule in _rules(str(group.id), r)
            )
            yield Group(str(group.id), group.name, rules)

    def make_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        subnet = create.get("ex_subnet")
        vpc = lib.ex_list_subnets([subnet])[0].extra["vpc_id"] if subnet else None
        made = lib.ex_create_security_group(name, "Dask cluster made by planapply", vpc)
        return str(made["group_id"])

    def change_group(
        self, lib: Any, group: Group, more: Iterable[Rule], less: Iterable[Rule]
    ) -> None:
        for call, rules, done in (
            (lib.ex_authorize_security_group_ingress, more, "InvalidPermission.Duplicate"),
            (lib.ex_revoke_security_group_ingress, less, "InvalidPermission.NotFound"),
        ):
            for protocol, first, last, who in rules:
                try:
                    call(
                        group.id,
                        first if protocol != "any" else -1,
                        last if protocol != "any" else -1,
                        cidr_ips=None if who == SELF else [who],
                        group_pairs=[{"group_id": group.id}] if who == SELF else None,
                        protocol="-1" if protocol == "any" else protocol,
                    )
                except Exception as error:
                    if done not in str(error):
                        raise

    def remove_group(self, lib: Any, id: str) -> None:
        lib.ex_delete_security_group_by_id(id)

    def members(self, lib: Any, group: Group) -> Sequence[str]:
        nodes = lib.list_nodes(ex_filters={"instance.group-id": group.id})
        return [node.id if node.name == node.id else f"{node.name} ({node.id})" for node in nodes]

    def in_group(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_security_group_ids": [id]}

    def join_group(self, lib: Any, node: Any, id: str) -> None:
        groups = _groups_of(node)
        if id not in groups:
            _put_into(lib, node, [*groups, id])

    def leave_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        groups = _groups_of(node)
        if id not in groups:
            return
        others = [group for group in groups if group != id]
        others = others or list(create.get("ex_security_group_ids", ()))
        if not others:  # EC2 wants one at least
            [group] = lib.ex_get_security_groups(group_ids=[id])
            its = {"group-name": "default", "vpc-id": group.extra["vpc_id"]}
            others = [str(found.id) for found in lib.ex_get_security_groups(filters=its)]
        _put_into(lib, node, others)


def _groups_of(node: Any) -> list[str]:
    return [str(group["group_id"]) for group in node.extra["groups"]]


def _put_into(lib: Any, node: Any, groups: Sequence[str]) -> None:
    lib.ex_modify_instance_attribute(node, {f"GroupId.{n}": id for n, id in enumerate(groups, 1)})


def _change_tags(lib: Any, action: str, id: str, tags: Mapping[str, str | None]) -> None:
    params = {"Action": action, "ResourceId.1": id}
    for number, (key, value) in enumerate(tags.items(), 1):
        params[f"Tag.{number}.Key"] = key
        if value is not None:
            params[f"Tag.{number}.Value"] = value
    lib.connection.request(lib.path, params=params)


def _rules(group: str, rule: Mapping[str, Any]) -> Iterable[Rule]:
    protocol = "any" if str(rule.get("protocol")) == "-1" else str(rule.get("protocol"))
    first, last = int(rule.get("from_port") or 0), int(rule.get("to_port") or 0)
    for who in rule.get("cidr_ips", ()):
        yield (protocol, max(0, first), max(0, last), str(who))
    if any(pair.get("group_id") == group for pair in rule.get("group_pairs", ())):
        yield AMONG_THEMSELVES


EC2_DRIVER = EC2(
    name="ec2",
    title="Amazon EC2",
    proof="the lab's EC2: moto, made as strict as AWS documents it",
    starter=STARTER,
    options={"signature_version": "4"},
    identity=("region",),
    user_data="ex_userdata",
    takes_bytes=True,
    tags="ex_metadata",
    seen_size="instance_type",
    seen_zone="availability",
    lists=("ex_security_groups", "ex_security_group_ids", "ex_blockdevicemappings"),
    spot={"ex_spot": True},
    token="ex_clienttoken",
    always={"ex_terminate_on_shutdown": True},
    ends_when_off=True,
    prices="libcloud",
    get_writes=True,
    poll=2.0,
    rate=(5.0, 2.0),
    definite={
        "InsufficientInstanceCapacity": ErrorKind.CAPACITY,
        "Unsupported": ErrorKind.CAPACITY,
        "IdempotentInstanceTerminated": ErrorKind.SPENT,
        "IdempotentParameterMismatch": ErrorKind.SPENT,
        "RequestLimitExceeded": ErrorKind.THROTTLED,
        "UnauthorizedOperation": ErrorKind.UNAUTHORIZED,
        "ExpiredToken": ErrorKind.UNAUTHORIZED,
        "RequestExpired": ErrorKind.UNAUTHORIZED,
        "InvalidGroup.NotFound": ErrorKind.UNAVAILABLE,
        "DependencyViolation": ErrorKind.UNAVAILABLE,
    },
)
