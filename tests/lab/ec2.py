"""EC2's documented behavior where moto is less strict or wrong: tokens, counts, limits, visibility.

Written from AWS's own documentation; where it is ambiguous, in the stricter sense.
"""

import base64
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from moto.core.exceptions import ServiceException
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import StateReason
from moto.ec2.utils import filter_reservations

from lab import seed
from lab.calls import (
    PAGES,
    ApiError,
    Params,
    check_request,
    check_tags,
    find_child,
    format_response,
    numbered_values,
    paginate,
    parse_filters,
)
from lab.faults import Clock, Throttle
from lab.seed import ACCOUNT
from lab.stock import ENDED, Settings, count_available, zones_of

FORGET_TERMINATED_AFTER = 3600.0


def _own_tags(self: Any) -> list[dict[str, str]]:
    """Return its own tags: moto's method searches all resources, which takes minutes for a thousand."""
    tags = dict(self.ec2_backend.tags.get(self.id, {}))
    return [{"resource_id": self.id, "key": key, "value": tags[key]} for key in tags]


TaggedEC2Resource.get_tags = _own_tags


@dataclass
class Delay:
    """Delay that ends after a number of calls and a number of seconds."""

    calls: int
    until: float

    def has_passed(self, now: float) -> bool:
        """Return whether the delay has ended."""
        return self.calls <= 0 and now >= self.until


@dataclass
class TokenUse:
    """Result of a client token."""

    params: Params
    outcome: bytes | ApiError
    ids: list[str] = field(default_factory=list)


class EC2:
    """EC2 of one account: moto's, with AWS's rules."""

    def __init__(self, settings: Settings, clock: Clock, seed_: int = 0) -> None:
        self.settings, self.clock = settings, clock
        self.console: Callable[[str], bytes] | None = None
        self._random = random.Random(seed_)
        self._tokens: dict[tuple[str, str, str], TokenUse] = {}
        self._hidden: dict[str, Delay] = {}
        self._pending: dict[str, Delay] = {}
        self._ending: dict[str, Delay] = {}
        self._ended_at: dict[str, float] = {}
        self.reclaim_times: dict[str, float] = {}
        """Time on the clock at which each spot VM is reclaimed; the VM's metadata has it."""
        self.rebalanced: dict[str, str] = {}
        """Time of the rebalance recommendation that the metadata of each of these spot VMs has."""
        self._throttles: dict[str, Throttle] = {}

    def instances(self, region: str | None = None) -> list[Any]:
        """Return moto's own instances in launch order, including hidden and terminated ones."""
        regions = [region] if region else sorted(ec2_backends[ACCOUNT])
        return [
            vm
            for name in regions
            for reservation in list(backend(name).reservations.values())
            for vm in list(reservation.instances)
        ]

    def handle_call(
        self, region: str, action: str, params: Params, moto: Callable[..., bytes]
    ) -> bytes:
        """Return EC2's response; `moto(params)` calls moto. Raise Refused for an error."""
        self.apply_due_changes(region)
        ids = numbered_values(params, "InstanceId")
        vms = int(params.get("MaxCount", 1)) if action == "RunInstances" else len(ids)
        throttle = self._throttles.setdefault(region, Throttle())
        if self.settings.throttle and not throttle.allows(action, params, vms, self.clock()):
            raise ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)
        if "DryRun" in params and params["DryRun"].lower() == "true":
            return moto(params)
        single = [params["InstanceId"]] if "InstanceId" in params else []
        for id_ in ids + single:
            if not re.fullmatch(r"i-[0-9a-f]{8,17}", id_):
                raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{id_}"')
        self._check_ids_exist(region, ids + single + numbered_values(params, "ResourceId"))
        if action.startswith(("Run", "Create")):
            check_tags(params)
        rule = getattr(self, f"_{action}", None)
        try:
            if rule:
                return bytes(rule(region, params, moto))
            return paginate(action, params, moto) if action in PAGES else moto(params)
        except ServiceException as error:
            raise ApiError(error.code, error.message) from error

    def terminate_vm(self, vm: Any, code: str, message: str) -> None:
        """Terminate `vm` with EC2's state reason, such as Server.SpotInstanceTermination."""
        if vm.state in ENDED:
            return
        vm.terminate()
        vm.state_reason = StateReason(message, code)
        self._ended_at[vm.id] = self.clock()
        delay = self._delay(self.settings.ending_calls, self.settings.ending_seconds)
        if not delay.has_passed(self.clock()):
            vm._state.name, vm._state.code = "shutting-down", 32
            self._ending[vm.id] = delay

    def power_off(self, vm: Any) -> None:
        """Terminate or stop a VM whose machine has shut down."""
        if vm.instance_initiated_shutdown_behavior == "terminate":
            code = "Client.InstanceInitiatedShutdown"
            self.terminate_vm(vm, code, f"{code}: Instance initiated shutdown")
        elif vm.state not in ENDED:
            vm.stop()

    def _delay(self, calls: int, seconds: float) -> Delay:
        return Delay(calls, self.clock() + seconds)

    def apply_due_changes(self, region: str) -> None:
        """Perform the changes that are due."""
        now = self.clock()
        for vm in self.instances(region) if self.reclaim_times else ():
            if self.reclaim_times.get(vm.id, now + 1) <= now:
                del self.reclaim_times[vm.id]
                code = "Server.SpotInstanceTermination"
                self.terminate_vm(vm, code, f"{code}: Instance terminated, no Spot capacity")
        self._hidden = {
            id_: delay for id_, delay in self._hidden.items() if not delay.has_passed(now)
        }
        for vm in self.instances(region) if self._pending or self._ending else ():
            if vm.id in self._pending and self._pending[vm.id].has_passed(now):
                del self._pending[vm.id]
                if vm.state == "pending":
                    vm._state.name, vm._state.code = "running", 16
            if vm.id in self._ending and self._ending[vm.id].has_passed(now):
                del self._ending[vm.id]
                vm._state.name, vm._state.code = "terminated", 48
        old = {id_ for id_, at in self._ended_at.items() if now - at > FORGET_TERMINATED_AFTER}
        for reservation in backend(region).reservations.values() if old else ():
            reservation.instances = [vm for vm in reservation.instances if vm.id not in old]

    def _check_ids_exist(self, region: str, ids: Sequence[str]) -> None:
        if not ids:
            return
        visible = {vm.id for vm in self.instances(region) if vm.id not in self._hidden}
        missing = [id_ for id_ in ids if id_.startswith("i-") and id_ not in visible]
        if missing:
            subject = (
                f"ID '{missing[0]}' does" if len(missing) == 1 else f"IDs '{', '.join(missing)}' do"
            )
            raise ApiError("InvalidInstanceID.NotFound", f"The instance {subject} not exist")

    def _RunInstances(self, region: str, params: Params, moto: Callable[..., bytes]) -> bytes:
        check_request(params)
        known = {id_ for groups in backend(region).groups.values() for id_ in groups}
        for group in numbered_values(params, "NetworkInterface.1.SecurityGroupId"):
            if group not in known:
                text = f"The security group '{group}' does not exist"
                raise ApiError("InvalidGroup.NotFound", text)
        subnet = params.get("SubnetId") or params.get("NetworkInterface.1.SubnetId")
        zone = params.get("Placement.AvailabilityZone", "")
        if subnet:
            zone = backend(region).get_subnet(subnet).availability_zone
        same = {k: v for k, v in params.items() if not re.match("Signature|AWSAccess|Timestamp", k)}
        key = (region, zone, params.get("ClientToken", ""))
        token_use = self._tokens.get(key) if key[2] else None
        if token_use:
            return self._repeat_launch(region, token_use, same)
        broken = ApiError("InternalError", "An internal error has occurred", 500)
        token_use = self._tokens[key] = TokenUse(same, broken)
        try:
            count = count_available(
                self.settings, self.instances(region), region, zone or f"{region}a", params
            )
            body = moto(params | {"MinCount": str(count), "MaxCount": str(count)})
        except ApiError as error:
            token_use.outcome = error
            raise
        body, token_use.ids = self._assign_indexes(region, body, params)
        token_use.outcome = body
        return body

    def _repeat_launch(self, region: str, token_use: TokenUse, params: Params) -> bytes:
        if token_use.params != params:
            text = "Arguments on this idempotent request are inconsistent with arguments used in "
            raise ApiError("IdempotentParameterMismatch", text + "previous request(s).")
        if isinstance(token_use.outcome, ApiError):
            raise token_use.outcome
        alive = {vm.id for vm in self.instances(region) if vm.state not in ENDED}
        if not alive.issuperset(token_use.ids):
            text = "The client token belongs to an instance that has been terminated."
            raise ApiError("IdempotentInstanceTerminated", text)
        return token_use.outcome

    def _assign_indexes(self, region: str, body: bytes, params: Params) -> tuple[bytes, list[str]]:
        """Set the launch indexes of new VMs; the order in the response differs."""
        root = ElementTree.fromstring(body)
        group = find_child(root, "instancesSet")
        items = list(group)
        ids = [find_child(item, "instanceId").text or "" for item in items]
        requested = int(params["MaxCount"])
        indexes = list(range(len(items)))
        if self.settings.gaps and len(items) < requested:
            indexes[1:] = sorted(self._random.sample(range(1, requested), len(items) - 1))
        new = {vm.id: vm for vm in self.instances(region) if vm.id in ids}
        for item, id_, index in zip(items, ids, indexes, strict=True):
            new[id_].ami_launch_index = index
            # The groups of the network interface are the instance's, which moto does not set.
            new[id_].security_groups = new[id_].security_groups or [
                group for nic in new[id_].nics.values() for group in nic.group_set
            ]
            find_child(item, "amiLaunchIndex").text = str(index)
            self._hidden[id_] = self._delay(
                self.settings.hidden_calls, self.settings.hidden_seconds
            )
            pending = self._delay(self.settings.pending_calls, self.settings.pending_seconds)
            if not pending.has_passed(self.clock()):
                new[id_]._state.name, new[id_]._state.code = "pending", 0
                self._pending[id_] = pending
        self._random.shuffle(items)
        group[:] = items
        return ElementTree.tostring(root), ids

    def _TerminateInstances(self, region: str, params: Params, moto: Callable[..., bytes]) -> bytes:
        ids = numbered_values(params, "InstanceId")
        if len(ids) > 1000:
            raise ApiError("InvalidParameterValue", "At most 1000 instance IDs may be given.")
        items = []
        for vm in [vm for vm in self.instances(region) if vm.id in ids]:
            before = vm.state, vm.state_code
            code = "Client.UserInitiatedShutdown"
            self.terminate_vm(vm, code, f"{code}: User initiated shutdown")
            now = ("terminated", 48) if before[0] == "terminated" else ("shutting-down", 32)
            items.append(
                f"<item><instanceId>{vm.id}</instanceId>"
                f"<currentState><code>{now[1]}</code><name>{now[0]}</name></currentState>"
                f"<previousState><code>{before[1]}</code><name>{before[0]}</name></previousState></item>"
            )
        return format_response(
            "TerminateInstances", f"<instancesSet>{''.join(items)}</instancesSet>"
        )

    def _DescribeInstances(self, region: str, params: Params, moto: Callable[..., bytes]) -> bytes:
        ids, filter_values = numbered_values(params, "InstanceId"), parse_filters(params)
        if ids and "MaxResults" in params:
            text = "The parameter instancesSet cannot be used with the parameter maxResults"
            raise ApiError("InvalidParameterCombination", text)
        if sum(map(len, filter_values.values())) > 200:
            raise ApiError("FilterLimitExceeded", "The maximum number of filter values is 200.")
        own = {
            name: filter_values.pop(name) for name in list(filter_values) if name in _EXTRA_FILTERS
        }
        try:
            reservations = filter_reservations(backend(region).all_reservations(), filter_values)
        except NotImplementedError:
            raise ApiError(
                "InvalidParameterValue", f"The filter '{', '.join(filter_values)}' is invalid"
            ) from None
        visible = [
            vm
            for reservation in reservations
            for vm in reservation.instances
            if vm.id not in self._hidden
            and (not ids or vm.id in ids)
            and all(str(_EXTRA_FILTERS[name](vm)) in values for name, values in own.items())
        ]
        for delays in (self._hidden, self._pending, self._ending):
            for delay in delays.values():
                delay.calls -= 1
        # A position in launch order, which stays valid while VMs are launched and terminated.
        order = {vm.id: place for place, vm in enumerate(self.instances(region), 1)}
        after, page_size = int(params.get("NextToken", 0)), int(params.get("MaxResults", 1000))
        rest = [vm for vm in visible if order[vm.id] > after]
        with show_only(region, {vm.id for vm in rest[:page_size]}):
            body = moto(
                {"Action": "DescribeInstances", "Version": "2016-11-15", "MaxResults": "1000"}
            )
        if len(rest) > page_size:
            token = f"<nextToken>{order[rest[page_size - 1].id]}</nextToken>"
            body = body.replace(b"</Describe", f"{token}</Describe".encode())
        return body

    def _DescribeInstanceStatus(
        self, region: str, params: Params, moto: Callable[..., bytes]
    ) -> bytes:
        with show_only(region, {vm.id for vm in self.instances(region)} - self._hidden.keys()):
            return moto(params)

    def _DeleteSecurityGroup(
        self, region: str, params: Params, moto: Callable[..., bytes]
    ) -> bytes:
        group = params.get("GroupId", "")
        used = any(
            other.id == group
            for vm in self.instances(region)
            if vm.state != "terminated"
            for other in vm.security_groups
        )
        named = any(
            rule.source_group.get("GroupId") == group
            for groups in backend(region).groups.values()
            for other in groups.values()
            for rule in [*other.ingress_rules, *other.egress_rules]
            if other.id != group
        )
        if used or named:
            raise ApiError("DependencyViolation", f"resource {group} has a dependent object")
        return moto(params)

    def _GetConsoleOutput(self, region: str, params: Params, moto: Callable[..., bytes]) -> bytes:
        if not self.console:
            return moto(params)
        last = base64.b64encode(self.console(params["InstanceId"])[-65536:]).decode()
        return format_response(
            "GetConsoleOutput",
            f"<instanceId>{params['InstanceId']}</instanceId>"
            f"<timestamp>2025-01-01T00:00:00.000Z</timestamp><output>{last}</output>",
        )

    def _DescribeSpotPriceHistory(
        self, region: str, params: Params, moto: Callable[..., bytes]
    ) -> bytes:
        filter_values = parse_filters(params)
        sizes = set(
            numbered_values(params, "InstanceType") + filter_values.get("instance-type", [])
        )
        zone = params.get("AvailabilityZone")
        zones = {zone} if zone else set(filter_values.get("availability-zone", []))
        items = "".join(
            f"<item><instanceType>{size}</instanceType><productDescription>Linux/UNIX"
            f"</productDescription><spotPrice>{seed.spot_price(size, zone):.6f}</spotPrice>"
            f"<timestamp>{seed.timestamp()}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
            for size in sorted(sizes or INSTANCE_TYPES)
            for zone in sorted(zones_of(region, size))
            if not zones or zone in zones
        )
        body = format_response(
            "DescribeSpotPriceHistory", f"<spotPriceHistorySet>{items}</spotPriceHistorySet>"
        )
        return paginate("DescribeSpotPriceHistory", params, lambda _: body)


_EXTRA_FILTERS: dict[str, Callable[[Any], Any]] = {
    "client-token": lambda vm: vm.client_token,
    "instance-lifecycle": lambda vm: vm.lifecycle or "",
    "instance-state-code": lambda vm: vm.state_code,
    "launch-index": lambda vm: vm.ami_launch_index,
}


def backend(region: str) -> Any:
    """Return moto's EC2 of that region."""
    return ec2_backends[ACCOUNT][region]


@contextmanager
def show_only(region: str, ids: set[str]) -> Iterator[None]:
    """Make moto see only these instances."""
    reservations = list(backend(region).reservations.values())
    all_ = [list(reservation.instances) for reservation in reservations]
    try:
        for reservation in reservations:
            reservation.instances = [vm for vm in reservation.instances if vm.id in ids]
        with_vms = {r.id: r for r in reservations if r.instances}
        all_reservations = dict(backend(region).reservations)
        backend(region).reservations.clear()
        backend(region).reservations.update(with_vms)
        yield
    finally:
        backend(region).reservations.clear()
        backend(region).reservations.update(all_reservations)
        for reservation, vms in zip(reservations, all_, strict=True):
            reservation.instances = vms
