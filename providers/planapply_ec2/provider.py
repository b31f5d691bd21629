"""The provider `ec2`: each method calls the module of its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from planapply.provider import LaunchRequest, LaunchResult, Limits, Price, ProviderError
from planapply.providerkit import (
    VM,
    Choice,
    EndReason,
    NodeConfig,
    NodeRecord,
    Requirements,
    Resource,
    ResourceDrift,
    collect_rejections,
    make_alternatives,
)
from planapply_ec2 import check, choose, console, find, group, image, launch, price, shell, sizes
from planapply_ec2 import terminate as termination
from planapply_ec2.client import Client
from planapply_ec2.network import find_network
from planapply_ec2.settings import Settings


class EC2:
    """One account and region of Amazon EC2."""

    # Buckets from "Request throttling for the Amazon EC2 API", a little smaller: calls that were
    # sent a few seconds apart may reach EC2 closer together. No batch is larger than a bucket.
    limits = Limits(
        batch=100,
        terminate_batch=900,
        parallel=4,
        consistency_delay=60.0,
        poll=2.0,
        launch_rate=(4.0, 1.9),
        launch_vm_rate=(990.0, 2.0),
        terminate_rate=(90.0, 5.0),
        terminate_vm_rate=(950.0, 20.0),
        user_data=launch.MAX_USER_DATA,
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client(settings.profile, settings.region)
        self._offered_zones: dict[str, set[str]] = {}

    def identity(self) -> dict[str, str]:
        """Return the account and region."""
        return self.client.identity()

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Return each size in each zone with a subnet; zones with every size of the plan first."""
        zones = find_network(self.client, self.settings).subnets

        def count_missing(zone: str) -> int:
            return sum(zone not in offered for offered in self._offered_zones.values())

        return make_alternatives(
            config,
            sizes=sizes.DEFAULT_SIZES[:1],
            zones=sorted(zones, key=lambda zone: (count_missing(zone), zone)),
        )

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch the VMs by one RunInstances call."""
        return launch.launch(self.client, request, find_network(self.client, self.settings))

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Return the VMs with these tags; one DescribeInstances call per 1,000 VMs."""
        return find.find(self.client, tags)

    def lookup(self, ids: Sequence[str]) -> Mapping[str, VM | None]:
        """Return the VMs with these IDs, whatever their tags; None for a terminated one."""
        return find.lookup(self.client, ids)

    def end_reasons(self, ids: Sequence[str]) -> Mapping[str, EndReason]:
        """Return why these VMs have ended, by EC2's `StateReason`."""
        return find.end_reasons(self.client, ids)

    def list_vms(self) -> list[VM]:
        """Return the VMs of all clusters in this account and region."""
        return find.list_vms(self.client)

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Terminate the VMs; one more TerminateInstances call each time that EC2 rejects IDs."""
        return termination.terminate(self.client, ids)

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Change the tags of the instances; their volumes keep their tags."""
        termination.retag(self.client, ids, tags, removed)

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """Return a security group, unless the settings name groups."""
        return group.required_resources(config, self.settings.allow_from)

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Create the group, or update its rules and tags."""
        vpc = find_network(self.client, self.settings).vpc
        return group.prepare(self.client, vpc, resource, tags)

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """Return the cluster's own security group."""
        return group.find_resources(self.client, tags, self.settings.allow_from)

    def inspect(self, resource: Resource, tags: Mapping[str, str]) -> ResourceDrift | None:
        """Compare the group's rules and tags with those that planapply has set."""
        return group.inspect(self.client, resource, tags)

    def cleanup(self, resource: Resource) -> None:
        """Delete the group."""
        group.cleanup(self.client, resource)

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """Allow one more network in the cluster's own group."""
        return group.allow(self.client, resource, network)

    def disallow(self, resource: Resource, network: str | None) -> Resource:
        """Remove a network that `allow` has added."""
        return group.disallow(self.client, resource, network)

    def own_network(self) -> str:
        """Return this machine's public address, from AWS's own service."""
        return group.own_network(self.client)

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """Return all errors; `alternatives` then uses the zones that were found."""
        problems = check.check(self.client, self.settings, configs)
        if not problems:
            self._offered_zones = check.find_offers(self.client, configs)
        return problems

    def check_settings(self) -> Sequence[ProviderError]:
        """Return errors in the network, the key pair, and the security groups of the settings."""
        return check.check_settings(self.client, self.settings)

    def choose(self, requirements: Requirements) -> list[str]:
        """Return the cheapest sizes, by Libcloud's price list."""
        return choose.choose(self.client, requirements)

    def pins(self, config: NodeConfig) -> dict[str, Any]:
        """Return the default image."""
        return image.pins(self.client, config)

    def check_choice(
        self, requirements: Requirements, sizes: Sequence[str]
    ) -> Sequence[ProviderError]:
        """Return an error for each size that does not meet the requirements."""
        return collect_rejections([lambda: choose.check_choice(self.client, requirements, sizes)])

    def check_pins(self, config: NodeConfig, values: Mapping[str, Any]) -> Sequence[ProviderError]:
        """Return an error unless the image is one of its publisher's."""
        return collect_rejections([lambda: image.check_pins(self.client, config, values)])

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """Return Libcloud's on-demand price, or EC2's spot price."""
        return price.price(
            self.client, self.settings.price, size or sizes.DEFAULT_SIZES[0], zone, spot
        )

    def shell(self, record: NodeRecord, config: NodeConfig, user: str | None) -> Sequence[str]:
        """Return the login command: with a key pair, or EC2 Instance Connect."""
        return shell.shell(self.client, self.settings.profile, record, config, user)

    def console(self, id: str, lines: int) -> str:
        """Return the last lines of the console output."""
        return console.console(self.client, id, lines)

    def secrets(self, id: str) -> str:
        """Return the user data."""
        return console.secrets(self.client, id)
