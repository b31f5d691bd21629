"""The security group that is made for a cluster: its VMs among themselves, few others."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from planapply.model.node import (
    DEFAULT_DASHBOARD_PORT,
    DEFAULT_PORT,
    TAG_CLUSTER,
    TAG_LINEAGE,
    TAG_PREFIX,
    NodeConfig,
)
from planapply.model.state import Resource
from planapply.provider import ErrorKind, ProviderError
from planapply_ec2.address import my_network
from planapply_ec2.client import Client
from planapply_ec2.find import tag_filters, tags_of
from planapply_ec2.settings import ME, network
from planapply_ec2.terminate import retag

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import IpPermissionTypeDef, SecurityGroupTypeDef, TagTypeDef

NAME, KIND = "security-group", "security group"
SSH = 22
_GONE = "InvalidGroup.NotFound"
_NOT_USERS = (TAG_PREFIX, "aws:")
Rule = tuple[str, int, int, str]
"""Protocol, first and last port, and who: a network or a group's id."""


def wanted(config: NodeConfig, allow_from: Iterable[str]) -> dict[str, Resource]:
    """The group that a cluster with this scheduler needs; none if it is given groups."""
    if config.provider.get("security_groups"):
        return {}
    ports = [config.options.get("port") or DEFAULT_PORT, _dashboard_port(config.options)]
    if config.provider.get("key_name"):
        ports.append(SSH)
    detail = {
        "allow_from": list(allow_from),
        "ports": [port for port in ports if port],
        "tags": dict(config.tags),
    }
    return {NAME: Resource(kind=KIND, detail=detail)}


def _dashboard_port(options: Mapping[str, Any]) -> int | None:
    if options.get("dashboard") is False:
        return None
    port = str(options.get("dashboard_address") or DEFAULT_DASHBOARD_PORT).rpartition(":")[2]
    return int(port) if port.isdigit() else DEFAULT_DASHBOARD_PORT


def prepare(client: Client, vpc: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
    """Make the group, or find the one with planapply's `tags`; let in who shall be, and tag it.

    `detail["me"]` is kept once it is known, and so is what `allow` has added. `detail["tagged"]`
    are the keys that were set: somebody else's tags stay.
    """
    detail = dict(resource.detail)
    if ME in detail["allow_from"] and ("me" not in detail or resource.id is None):
        detail["me"] = my_network()
    detail["vpc"] = vpc
    ours = {k: v for k, v in tags.items() if k.startswith(TAG_PREFIX)}
    found = _find(client, ours)
    if found:
        group, have = found[0]["GroupId"], _rules(found[0])
        tagged = tags_of(found[0].get("Tags", []))
    else:
        tagged = {**detail["tags"], **ours}
        group, have = _make(client, vpc, tagged), set()
    want = _wanted_rules(group, detail)
    _change(client, group, want - have, have - want)
    more = {k: v for k, v in detail["tags"].items() if tagged.get(k) != v}
    less = sorted({*detail.get("tagged", ())} & tagged.keys() - detail["tags"].keys())
    retag(client, [group], more, less)
    detail["tagged"] = sorted(detail["tags"])
    return Resource(kind=KIND, id=group, detail=detail)


def allow(client: Client, resource: Resource, who: str | None) -> Resource:
    """Let one more network in, by default this machine, as long as the cluster lasts.

    One that is gone comes back without its id, for `prepare` to make again and let all of them in.
    """
    try:
        added = my_network() if who in (None, ME) else network(who)
    except ValueError as error:
        wrong, _, write = str(error).partition("\n")
        raise ProviderError(ErrorKind.REJECTED, wrong, write) from error
    allowed = [*resource.detail.get("allowed", [])]
    if added not in allowed:
        allowed.append(added)
    detail = {**resource.detail, "allowed": allowed}
    group = str(resource.id)
    try:
        rules = _wanted_rules(group, detail) - _wanted_rules(group, resource.detail)
        _change(client, group, rules, ())
    except ProviderError as error:
        if _GONE not in error.summary:
            raise
        return Resource(kind=KIND, detail=detail)
    return resource.model_copy(update={"detail": detail})


def find_resources(
    client: Client, tags: Mapping[str, str], allow_from: Collection[str]
) -> dict[str, Resource]:
    """The group with these tags, and what its rules show of whom `allow_from` lets in."""
    found = _find(client, tags)
    if not found:
        return {}
    tags = tags_of(found[0].get("Tags", []))
    users = {k: v for k, v in tags.items() if k != "Name" and not k.startswith(_NOT_USERS)}
    detail = {
        "vpc": found[0].get("VpcId"),
        **_shown(_rules(found[0]), allow_from),
        "tags": users,
        "tagged": sorted(users),
    }
    return {NAME: Resource(kind=KIND, id=found[0]["GroupId"], detail=detail)}


def _shown(rules: Iterable[Rule], allow_from: Collection[str]) -> dict[str, Any]:
    """What `prepare` was asked for, as far as these rules are what it makes.

    Without a network in them, nothing of ports is known.
    """
    by_network: dict[str, set[int]] = {}
    for protocol, first, last, who in rules:
        if protocol == "tcp" and first == last and not who.startswith("sg-"):
            by_network.setdefault(who, set()).add(first)
    if not by_network:
        return {"allow_from": []}
    # Somebody's own rules, for another port, let nobody in to ours.
    usual = Counter(map(frozenset, by_network.values()))
    ports = max(usual, key=lambda ports: (usual[ports], len(ports)))
    networks = {who for who, its in by_network.items() if its >= ports}
    others = sorted(networks.difference(allow_from))
    # Of several hosts any may have been me: each stays let in, this one until `allow_from` changes.
    me = next((n for n in others if ME in allow_from and _is_host(n)), None)
    detail: dict[str, Any] = {
        "allow_from": [n for n in allow_from if n in networks or (n == ME and me)],
        "ports": sorted(ports),
    }
    if me:
        detail["me"] = me
        others.remove(me)
    return detail | ({"allowed": others} if others else {})


def _is_host(network: str) -> bool:
    return ip_network(network).num_addresses == 1


def cleanup(client: Client, resource: Resource) -> None:
    """Remove the group; one that is in use raises an `unavailable` ProviderError."""
    with client.asking(writes=True):
        try:
            client.ec2.delete_security_group(GroupId=str(resource.id))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != _GONE:
                raise


def _find(client: Client, tags: Mapping[str, str]) -> "list[SecurityGroupTypeDef]":
    with client.asking():
        return client.ec2.describe_security_groups(Filters=tag_filters(tags))["SecurityGroups"]


def _make(client: Client, vpc: str, tags: Mapping[str, str]) -> str:
    lineage, name = tags[TAG_LINEAGE], f"planapply {tags[TAG_CLUSTER]} {tags[TAG_LINEAGE]}"
    pairs: list[TagTypeDef] = [{"Key": k, "Value": v} for k, v in {"Name": name, **tags}.items()]
    with client.asking(writes=True):
        try:
            answer = client.ec2.create_security_group(
                GroupName=name,
                Description="Dask cluster made by planapply",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": pairs}],
            )
            return answer["GroupId"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "InvalidGroup.Duplicate":
                raise
    # An earlier try has made it, and its tags were not seen yet.
    for group in _by_name(client, vpc, name):
        if tags_of(group.get("Tags", [])).get(TAG_LINEAGE) == lineage:
            return group["GroupId"]
    raise ProviderError(ErrorKind.UNAVAILABLE, f"the security group {name!r} can't be seen yet")


def _by_name(client: Client, vpc: str, name: str) -> "list[SecurityGroupTypeDef]":
    with client.asking():
        return client.ec2.describe_security_groups(
            Filters=[
                {"Name": "group-name", "Values": [name]},
                {"Name": "vpc-id", "Values": [vpc]},
            ]
        )["SecurityGroups"]


def _wanted_rules(group: str, detail: Mapping[str, Any]) -> set[Rule]:
    networks = [detail.get("me") if n == ME else n for n in detail.get("allow_from", ())]
    networks += detail.get("allowed", ())
    among_themselves = {("-1", -1, -1, group)}
    return among_themselves | {
        ("tcp", port, port, network)
        for network in networks
        if network
        for port in detail.get("ports", ())
    }


def _rules(group: "SecurityGroupTypeDef") -> set[Rule]:
    rules: set[Rule] = set()
    for rule in group.get("IpPermissions", []):
        whos = [r["CidrIp"] for r in rule.get("IpRanges", [])]
        whos += [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        whos += [pair["GroupId"] for pair in rule.get("UserIdGroupPairs", [])]
        ports = rule.get("FromPort", -1), rule.get("ToPort", -1)
        rules |= {(rule["IpProtocol"], *ports, who) for who in whos}
    return rules


def _change(client: Client, group: str, more: Iterable[Rule], less: Iterable[Rule]) -> None:
    """Let in, then shut out; done already is success."""
    calls = (
        (client.ec2.authorize_security_group_ingress, more, "InvalidPermission.Duplicate"),
        (client.ec2.revoke_security_group_ingress, less, "InvalidPermission.NotFound"),
    )
    for call, rules, done in calls:
        for permissions in _together(rules):
            with client.asking(writes=True):
                try:
                    call(GroupId=group, IpPermissions=permissions)
                except ClientError as error:
                    if error.response.get("Error", {}).get("Code") != done:
                        raise


def _together(rules: Iterable[Rule]) -> "list[list[IpPermissionTypeDef]]":
    """All in one call; none where there is nothing to do."""
    permissions = [_permission(rule) for rule in sorted(rules)]
    return [permissions] if permissions else []


def _permission(rule: Rule) -> "IpPermissionTypeDef":
    protocol, first, last, who = rule
    permission: IpPermissionTypeDef = {"IpProtocol": protocol}
    if protocol != "-1":
        permission |= {"FromPort": first, "ToPort": last}
    if who.startswith("sg-"):
        permission["UserIdGroupPairs"] = [{"GroupId": who}]
    elif ":" in who:
        permission["Ipv6Ranges"] = [{"CidrIpv6": who, "Description": "planapply"}]
    else:
        permission["IpRanges"] = [{"CidrIp": who, "Description": "planapply"}]
    return permission
