"""Driver for Amazon EC2, for use next to other clouds; the provider `ec2` can do more."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from planapply.provider import ErrorKind
from planapply.providerkit import TAG_PREFIX, Rule
from planapply_libcloud.drivers.full import INTERNAL_RULE, SELF, FullDriver, Group

_METADATA_OPTIONS = {
    "MetadataOptions.HttpTokens": "required",
    "MetadataOptions.HttpPutResponseHopLimit": "1",
}

STARTER = """\
[provider]
driver = "ec2"                        # the provider `ec2` can do more: planapply init --provider ec2
key = "env:AWS_ACCESS_KEY_ID"
secret = "env:AWS_SECRET_ACCESS_KEY"
# allow_from = ["203.0.113.0/24"]     # networks that may reach the scheduler
options = { region = "eu-west-1" }

[defaults]
size = "m7i.large"
image = "ami-0123456789abcdef0"       # an image with cloud-init
"""


@dataclass(frozen=True)
class EC2(FullDriver):
    """Driver that sends every request by GET."""

    def status_of(self, node: Any) -> str:
        # Libcloud reports shutting-down as "unknown".
        status = node.extra.get("status")
        return "stopping" if status == "shutting-down" else str(status or node.state)

    def is_spot(self, node: Any) -> bool:
        return bool(node.extra.get("instance_lifecycle") == "spot")

    def token_of(self, node: Any) -> str | None:
        return str(node.extra.get("client_token") or "")

    def patch_driver(self, lib: Any) -> None:
        # The user data has the cluster's TLS key. Version 1 of the metadata service gives it to
        # anyone who can make a process of the VM fetch a URL; the driver has no argument for this.
        send = lib.connection.request

        def request(path: str, *args: Any, **kwargs: Any) -> Any:
            params = kwargs.get("params") or {}
            if params.get("Action") == "RunInstances":
                kwargs["params"] = {**_METADATA_OPTIONS, **params}
            return send(path, *args, **kwargs)

        lib.connection.request = request

    def find_account(self, lib: Any) -> dict[str, str]:
        groups = lib.ex_get_security_groups(group_names=["default"])
        return {"account": str(groups[0].extra["owner_id"])} if groups else {}

    def find_image(self, lib: Any, name: str) -> Any:
        found = lib.list_images(ex_image_ids=[name])
        return found[0] if found else None

    def list_nodes(
        self, lib: Any, tags: Mapping[str, str], create: Mapping[str, Any]
    ) -> Sequence[Any]:
        filters = {f"tag:{key}": value for key, value in tags.items()}
        alive = ["pending", "running", "shutting-down", "stopping", "stopped"]
        nodes: Sequence[Any] = lib.list_nodes(
            ex_filters={"instance-state-name": alive, "tag-key": f"{TAG_PREFIX}*", **filters}
        )
        return nodes

    def make_arguments(self, request: Any, create: Mapping[str, Any], lookups: Any) -> Any:
        create = dict(create)
        if isinstance(create.get("ex_subnet"), str):
            create["ex_subnet"] = SimpleNamespace(id=create["ex_subnet"])
        elif "ex_security_group_ids" in create:
            # The driver accepts IDs only with a subnet; without one, EC2 accepts IDs as names.
            create["ex_security_groups"] = create.pop("ex_security_group_ids")
        return super().make_arguments(request, create, lookups)

    def console(self, lib: Any, id: str) -> str:
        return str(lib.ex_get_console_output(SimpleNamespace(id=id)).get("output") or "")

    def retag(self, lib: Any, node: Any, tags: Mapping[str, str], removed: Sequence[str]) -> None:
        # The driver's own calls number tags from 0, and EC2 from 1.
        _change_tags(lib, "CreateTags", node.id, dict(tags))
        if removed:
            _change_tags(lib, "DeleteTags", node.id, dict.fromkeys(removed))

    def list_groups(self, lib: Any) -> Iterable[Group]:
        for group in lib.ex_get_security_groups():
            rules = frozenset(
                rule for r in group.ingress_rules for rule in _parse_rules(str(group.id), r)
            )
            yield Group(str(group.id), group.name, rules)

    def create_group(self, lib: Any, name: str, create: Mapping[str, Any]) -> str:
        subnet = create.get("ex_subnet")
        vpc = lib.ex_list_subnets([subnet])[0].extra["vpc_id"] if subnet else None
        group = lib.ex_create_security_group(name, "Dask cluster made by planapply", vpc)
        return str(group["group_id"])

    def change_group(
        self, lib: Any, group: Group, added: Iterable[Rule], removed: Iterable[Rule]
    ) -> None:
        for call, rules, done_code in (
            (lib.ex_authorize_security_group_ingress, added, "InvalidPermission.Duplicate"),
            (lib.ex_revoke_security_group_ingress, removed, "InvalidPermission.NotFound"),
        ):
            for protocol, first, last, source in rules:
                with _ignore(done_code):
                    call(
                        group.id,
                        first if protocol != "any" else -1,
                        last if protocol != "any" else -1,
                        cidr_ips=None if source == SELF else [source],
                        group_pairs=[{"group_id": group.id}] if source == SELF else None,
                        protocol="-1" if protocol == "any" else protocol,
                    )

    def remove_group(self, lib: Any, id: str) -> None:
        with _ignore("InvalidGroup.NotFound"):
            lib.ex_delete_security_group_by_id(id)

    def list_members(self, lib: Any, group: Group) -> Sequence[str]:
        nodes = lib.list_nodes(ex_filters={"instance.group-id": group.id})
        return [node.id if node.name == node.id else f"{node.name} ({node.id})" for node in nodes]

    def group_arguments(self, id: str, create: Mapping[str, Any]) -> dict[str, Any]:
        return {"ex_security_group_ids": [id]}

    def add_to_group(self, lib: Any, node: Any, id: str) -> None:
        groups = _groups_of(node)
        if id not in groups:
            _set_groups(lib, node, [*groups, id])

    def remove_from_group(self, lib: Any, node: Any, id: str, create: Mapping[str, Any]) -> None:
        groups = _groups_of(node)
        if id not in groups:
            return
        remaining = [group for group in groups if group != id]
        remaining = remaining or list(create.get("ex_security_group_ids", ()))
        if not remaining:  # EC2 requires at least one
            [group] = lib.ex_get_security_groups(group_ids=[id])
            filters = {"group-name": "default", "vpc-id": group.extra["vpc_id"]}
            remaining = [str(found.id) for found in lib.ex_get_security_groups(filters=filters)]
        _set_groups(lib, node, remaining)


@contextmanager
def _ignore(code: str) -> Iterator[None]:
    """Suppress a driver's exception with this error code."""
    try:
        yield
    except Exception as error:
        # The driver writes each error of a response as a line "code: message".
        if code not in {line.partition(":")[0] for line in str(error).splitlines()}:
            raise


def _groups_of(node: Any) -> list[str]:
    return [str(group["group_id"]) for group in node.extra["groups"]]


def _set_groups(lib: Any, node: Any, groups: Sequence[str]) -> None:
    lib.ex_modify_instance_attribute(node, {f"GroupId.{n}": id for n, id in enumerate(groups, 1)})


def _change_tags(lib: Any, action: str, id: str, tags: Mapping[str, str | None]) -> None:
    params = {"Action": action, "ResourceId.1": id}
    for number, (key, value) in enumerate(tags.items(), 1):
        params[f"Tag.{number}.Key"] = key
        if value is not None:
            params[f"Tag.{number}.Value"] = value
    lib.connection.request(lib.path, params=params)


def _parse_rules(group: str, rule: Mapping[str, Any]) -> Iterable[Rule]:
    protocol = "any" if str(rule.get("protocol")) == "-1" else str(rule.get("protocol"))
    first, last = int(rule.get("from_port") or 0), int(rule.get("to_port") or 0)
    for source in rule.get("cidr_ips", ()):
        yield (protocol, max(0, first), max(0, last), str(source))
    if any(pair.get("group_id") == group for pair in rule.get("group_pairs", ())):
        yield INTERNAL_RULE


EC2_DRIVER = EC2(
    name="ec2",
    title="Amazon EC2",
    tested_on="the lab's EC2: moto, made as strict as AWS documents it",
    starter=STARTER,
    options={"signature_version": "4"},
    identity=("region",),
    user_data="ex_userdata",
    has_binary_user_data=True,
    tags="ex_metadata",
    size_path="instance_type",
    zone_path="availability",
    list_arguments=("ex_security_groups", "ex_security_group_ids", "ex_blockdevicemappings"),
    spot={"ex_spot": True},
    token="ex_clienttoken",
    fixed_arguments={"ex_terminate_on_shutdown": True},
    is_deleted_when_off=True,
    price_source="libcloud",
    has_writes_by_get=True,
    poll=2.0,
    rate=(5.0, 2.0),
    in_use_code="DependencyViolation",
    error_kinds={
        "InsufficientInstanceCapacity": ErrorKind.CAPACITY,
        "Unsupported": ErrorKind.CAPACITY,
        "IdempotentInstanceTerminated": ErrorKind.TOKEN_SPENT,
        "IdempotentParameterMismatch": ErrorKind.TOKEN_SPENT,
        "RequestLimitExceeded": ErrorKind.THROTTLED,
        "UnauthorizedOperation": ErrorKind.UNAUTHORIZED,
        "ExpiredToken": ErrorKind.UNAUTHORIZED,
        "RequestExpired": ErrorKind.UNAUTHORIZED,
        "InvalidGroup.NotFound": ErrorKind.UNAVAILABLE,
        "DependencyViolation": ErrorKind.UNAVAILABLE,
    },
)
