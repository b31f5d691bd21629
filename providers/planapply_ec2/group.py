"""Security group of a cluster: its VMs may reach each other, and few networks the scheduler."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import (
    ME,
    TAG_CLUSTER,
    TAG_LINEAGE,
    TAG_PREFIX,
    FieldChange,
    NodeConfig,
    Resource,
    ResourceDrift,
    Rule,
    allow_network,
    client_rules,
    disallow_network,
    scheduler_ports,
    user_tags,
)
from planapply_ec2.address import detect_own_network
from planapply_ec2.client import Client
from planapply_ec2.errors import GROUP_NOT_FOUND, code_of
from planapply_ec2.find import make_tag_filters, parse_tags
from planapply_ec2.terminate import retag

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        IpPermissionOutputTypeDef,
        IpPermissionTypeDef,
        SecurityGroupTypeDef,
        TagTypeDef,
    )

RESOURCE_NAME, RESOURCE_KIND = "security-group", "security group"
SSH = 22
_OUTBOUND: Rule = ("-1", -1, -1, "0.0.0.0/0")
"""The rule for outbound traffic that EC2 gives each new group; without it, a node can install nothing."""


def required_resources(config: NodeConfig, allow_from: Iterable[str]) -> dict[str, Resource]:
    """Return the group for a cluster with this scheduler; none if the settings name groups."""
    if config.provider.get("security_groups"):
        return {}
    ports = scheduler_ports(config.options) + ([SSH] if config.provider.get("key_name") else [])
    detail = {"allow_from": list(allow_from), "ports": ports, "tags": dict(config.tags)}
    return {RESOURCE_NAME: Resource(kind=RESOURCE_KIND, detail=detail)}


def prepare(client: Client, vpc: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
    """Create the group, or find the one with planapply's `tags`; update its rules and tags.

    `detail["me"]` is kept once it is known, and so are networks that `allow` has added.
    `detail["tagged"]` has the keys that planapply has set: other tags are not changed.
    """
    detail = dict(resource.detail)
    if ME in detail["allow_from"] and ("me" not in detail or resource.id is None):
        detail["me"] = own_network(client)
    detail["vpc"] = vpc
    own_tags = {k: v for k, v in tags.items() if k.startswith(TAG_PREFIX)}
    desired_tags = _group_tags(detail, own_tags)
    # By its ID first: another user may have removed its tags.
    existing = _find_by_id(client, resource.id) if resource.id else None
    existing = existing or next(iter(_find_groups(client, own_tags)), None)
    if existing:
        group, rules = existing["GroupId"], _parse_rules(existing.get("IpPermissions", []))
        current_tags = parse_tags(existing.get("Tags", []))
    else:
        current_tags = desired_tags
        group, rules = _create(client, vpc, desired_tags), set()
    if existing and _OUTBOUND not in _parse_rules(existing.get("IpPermissionsEgress", [])):
        authorize = client.ec2.authorize_security_group_egress
        _send_rules(client, authorize, group, [_OUTBOUND], "InvalidPermission.Duplicate")
    desired_rules = _make_rules(group, detail)
    _change_rules(client, group, desired_rules - rules, rules - desired_rules)
    added_tags = {k: v for k, v in desired_tags.items() if current_tags.get(k) != v}
    removed_tags = sorted({*detail.get("tagged", ())} & current_tags.keys() - detail["tags"].keys())
    retag(client, [group], added_tags, removed_tags)
    detail["tagged"] = sorted(detail["tags"])
    return Resource(kind=RESOURCE_KIND, id=group, detail=detail)


def inspect(client: Client, resource: Resource, tags: Mapping[str, str]) -> ResourceDrift | None:
    """Return the rules and tags that differ from those that `prepare` makes; None if none does."""
    group = _find_by_id(client, str(resource.id))
    if group is None:
        return ResourceDrift(exists=False)
    rules = _parse_rules(group.get("IpPermissions", []))
    desired = _make_rules(str(resource.id), resource.detail)
    outbound = _parse_rules(group.get("IpPermissionsEgress", []))
    current, expected = parse_tags(group.get("Tags", [])), _group_tags(resource.detail, tags)
    fields = [
        *(
            _make_field(f"rules.{_format_rule(r)}", "open", "closed")
            for r in sorted(rules - desired)
        ),
        *(
            _make_field(f"rules.{_format_rule(r)}", "closed", "open")
            for r in sorted(desired - rules)
        ),
        *(
            [_make_field("rules.all traffic to 0.0.0.0/0", "closed", "open")]
            if _OUTBOUND not in outbound
            else ()
        ),
        *(
            _make_field(f"tags.{key}", current.get(key), value)
            for key, value in sorted(expected.items())
            if current.get(key) != value
        ),
    ]
    return ResourceDrift(fields=tuple(fields)) if fields else None


def _make_field(path: str, before: str | None, after: str | None) -> FieldChange:
    return FieldChange(path=path, before=before, after=after, forces_replacement=False)


def _format_rule(rule: Rule) -> str:
    """Return a rule as people read it: `tcp 22 from 0.0.0.0/0`."""
    protocol, first, last, source = rule
    if protocol == "-1":
        return f"all traffic from {source}"
    if protocol in ("tcp", "udp"):
        return f"{protocol} {first if first == last else f'{first}-{last}'} from {source}"
    return f"protocol {protocol} ({first}, {last}) from {source}"


def _group_tags(detail: Mapping[str, Any], own_tags: Mapping[str, str]) -> dict[str, str]:
    return {"Name": _group_name(own_tags), **detail.get("tags", {}), **own_tags}


def _group_name(tags: Mapping[str, str]) -> str:
    return f"planapply {tags[TAG_CLUSTER]} {tags[TAG_LINEAGE]}"


def allow(client: Client, resource: Resource, network: str | None) -> Resource:
    """Allow one more network, by default this machine, for the life of the cluster."""
    return _change_access(client, resource, allow_network(resource, _resolve(client, network)))


def disallow(client: Client, resource: Resource, network: str | None) -> Resource:
    """Remove a network that `allow` has added, by default this machine."""
    return _change_access(client, resource, disallow_network(resource, _resolve(client, network)))


def _change_access(client: Client, resource: Resource, changed: Resource) -> Resource:
    """Change the group's rules as the resource has changed, and return the changed resource.

    A group that does not exist any more is returned without its ID: `prepare` creates it again.
    """
    group = str(resource.id)
    before, after = _make_rules(group, resource.detail), _make_rules(group, changed.detail)
    try:
        _change_rules(client, group, after - before, before - after)
    except ProviderError as error:
        if error.code != GROUP_NOT_FOUND:
            raise
        return Resource(kind=RESOURCE_KIND, detail=changed.detail)
    return changed


def _resolve(client: Client, network: str | None) -> str:
    return own_network(client) if network is None or network == ME else network


def own_network(client: Client) -> str:
    """Return this machine's public address as a network, detected once."""
    return client.cache.get("own network", detect_own_network)


def find_resources(
    client: Client, tags: Mapping[str, str], allow_from: Collection[str]
) -> dict[str, Resource]:
    """Return the group with these tags, and the networks of `allow_from` that its rules allow."""
    found = _find_groups(client, tags)
    if not found:
        return {}
    tags = parse_tags(found[0].get("Tags", []))
    set_tags = {k: v for k, v in user_tags(tags).items() if not k.startswith("aws:")}
    detail = {
        "vpc": found[0].get("VpcId"),
        **_infer_detail(_parse_rules(found[0].get("IpPermissions", [])), allow_from),
        "tags": set_tags,
        "tagged": sorted(set_tags),
    }
    return {RESOURCE_NAME: Resource(kind=RESOURCE_KIND, id=found[0]["GroupId"], detail=detail)}


def _infer_detail(rules: Iterable[Rule], allow_from: Collection[str]) -> dict[str, Any]:
    """Return the details for which `prepare` would make these rules.

    Without a network in the rules, the ports are unknown.
    """
    by_network: dict[str, set[int]] = {}
    for protocol, first, last, source in rules:
        if protocol == "tcp" and first == last and not source.startswith(("sg-", "pl-")):
            by_network.setdefault(source, set()).add(first)
    if not by_network:
        return {"allow_from": []}
    # Rules that a user added, for another port, do not allow access to these.
    port_counts = Counter(map(frozenset, by_network.values()))
    ports = max(port_counts, key=lambda ports: (port_counts[ports], len(ports)))
    networks = {source for source, open_ports in by_network.items() if open_ports >= ports}
    other_networks = sorted(networks.difference(allow_from))
    # Any of several hosts may have been "me": all stay allowed, this one until `allow_from` changes.
    own_network = next((n for n in other_networks if ME in allow_from and _is_host(n)), None)
    detail: dict[str, Any] = {
        "allow_from": [n for n in allow_from if n in networks or (n == ME and own_network)],
        "ports": sorted(ports),
    }
    if own_network:
        detail["me"] = own_network
        other_networks.remove(own_network)
    return detail | ({"allowed": other_networks} if other_networks else {})


def _is_host(network: str) -> bool:
    return ip_network(network).num_addresses == 1


def cleanup(client: Client, resource: Resource) -> None:
    """Delete the group; raise an unavailable ProviderError if it is in use."""
    with client.translate_errors(writes=True):
        try:
            client.ec2.delete_security_group(GroupId=str(resource.id))
        except ClientError as error:
            if code_of(error) != GROUP_NOT_FOUND:
                raise


def _find_groups(client: Client, tags: Mapping[str, str]) -> "list[SecurityGroupTypeDef]":
    """Return the groups with these tags that planapply has created.

    Anyone may set tags, but no one can change the name of a group.
    """
    with client.translate_errors():
        found = client.ec2.describe_security_groups(Filters=make_tag_filters(tags))
    return [
        group
        for group in found["SecurityGroups"]
        if {TAG_CLUSTER, TAG_LINEAGE} <= (own := parse_tags(group.get("Tags", []))).keys()
        and group.get("GroupName") == _group_name(own)
    ]


def _find_by_id(client: Client, id: str) -> "SecurityGroupTypeDef | None":
    with client.translate_errors():
        found = client.ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": [id]}])[
            "SecurityGroups"
        ]
    return found[0] if found else None


def _create(client: Client, vpc: str, tags: Mapping[str, str]) -> str:
    lineage, name = tags[TAG_LINEAGE], _group_name(tags)
    pairs: list[TagTypeDef] = [{"Key": k, "Value": v} for k, v in tags.items()]
    with client.translate_errors(writes=True):
        try:
            answer = client.ec2.create_security_group(
                GroupName=name,
                Description="Dask cluster made by planapply",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": pairs}],
            )
            return answer["GroupId"]
        except ClientError as error:
            if code_of(error) != "InvalidGroup.Duplicate":
                raise
    # An earlier attempt has created it, and its tags were not visible yet.
    for group in _find_by_name(client, vpc, name):
        if parse_tags(group.get("Tags", [])).get(TAG_LINEAGE) == lineage:
            return group["GroupId"]
    raise ProviderError(ErrorKind.UNAVAILABLE, f"security group {name!r} is not visible yet")


def _find_by_name(client: Client, vpc: str, name: str) -> "list[SecurityGroupTypeDef]":
    with client.translate_errors():
        return client.ec2.describe_security_groups(
            Filters=[
                {"Name": "group-name", "Values": [name]},
                {"Name": "vpc-id", "Values": [vpc]},
            ]
        )["SecurityGroups"]


def _make_rules(group: str, detail: Mapping[str, Any]) -> set[Rule]:
    return {("-1", -1, -1, group), *client_rules(detail)}


def _parse_rules(permissions: "Iterable[IpPermissionOutputTypeDef]") -> set[Rule]:
    rules: set[Rule] = set()
    for rule in permissions:
        sources = [r["CidrIp"] for r in rule.get("IpRanges", [])]
        sources += [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        sources += [pair["GroupId"] for pair in rule.get("UserIdGroupPairs", [])]
        sources += [prefix["PrefixListId"] for prefix in rule.get("PrefixListIds", [])]
        ports = rule.get("FromPort", -1), rule.get("ToPort", -1)
        rules |= {(rule["IpProtocol"], *ports, source) for source in sources}
    return rules


def _change_rules(
    client: Client, group: str, added: Iterable[Rule], removed: Iterable[Rule]
) -> None:
    """Add rules, then remove rules; a change that is done already is a success."""
    authorize = client.ec2.authorize_security_group_ingress
    _send_rules(client, authorize, group, added, "InvalidPermission.Duplicate")
    revoke = client.ec2.revoke_security_group_ingress
    _send_rules(client, revoke, group, removed, "InvalidPermission.NotFound")


def _send_rules(
    client: Client, call: Callable[..., object], group: str, rules: Iterable[Rule], done_code: str
) -> None:
    """Change rules in one request, or in none without rules; `done_code` is the error if it is done already."""
    permissions = [_make_permission(rule) for rule in sorted(rules)]
    if not permissions:
        return
    with client.translate_errors(writes=True):
        try:
            call(GroupId=group, IpPermissions=permissions)
        except ClientError as error:
            if code_of(error) != done_code:
                raise


def _make_permission(rule: Rule) -> "IpPermissionTypeDef":
    protocol, first, last, source = rule
    permission: IpPermissionTypeDef = {"IpProtocol": protocol}
    if protocol != "-1":
        permission |= {"FromPort": first, "ToPort": last}
    if source.startswith("sg-"):
        permission["UserIdGroupPairs"] = [{"GroupId": source}]
    elif source.startswith("pl-"):
        permission["PrefixListIds"] = [{"PrefixListId": source}]
    elif ":" in source:
        permission["Ipv6Ranges"] = [{"CidrIpv6": source, "Description": "planapply"}]
    else:
        permission["IpRanges"] = [{"CidrIp": source, "Description": "planapply"}]
    return permission
