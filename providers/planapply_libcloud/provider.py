"""The provider `libcloud`: each method calls the module of its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from planapply.provider import LaunchRequest, LaunchResult, Limits, Price, ProviderError
from planapply.providerkit import (
    VM,
    Choice,
    Diagnostic,
    NodeConfig,
    Requirements,
    Resource,
    collect_rejections,
    make_alternatives,
    rejection,
)
from planapply_libcloud import check, choose, console, find, firewall, labels, launch, notes, price
from planapply_libcloud import terminate as termination
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.settings import Settings


class Libcloud:
    """One account of one cloud, with the capabilities of every driver."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.catalog = Catalog(client)

    @property
    def limits(self) -> Limits:
        """Limits with one VM per call; tokens only if the cloud has them."""
        driver = self.client.driver
        user_data_limit = (
            driver.user_data_limit
            if driver.has_binary_user_data
            else labels.max_compressed_size(driver.user_data_limit)
        )
        return Limits(
            batch=1,
            parallel=driver.parallel,
            tokens=bool(driver.token),
            consistency_delay=driver.consistency_delay,
            poll=driver.poll,
            launch_rate=driver.rate,
            user_data=user_data_limit if driver.user_data else 0,
        )

    def identity(self) -> dict[str, str]:
        """Return the driver, and the options and facts that identify the account."""
        driver, options = self.client.driver, self.client.settings.options
        known = {
            key: self.client.resolve_text(options[key]) for key in driver.identity if key in options
        }
        with self.client.borrow_driver() as lib:
            return {"driver": driver.name, **known, **driver.find_account(lib)}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Return each size in each zone."""
        return make_alternatives(config)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch the VM by one create_node call."""
        return launch.launch(self.client, self.catalog, request)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """Return the VMs with these tags, by one list_nodes call."""
        return find.find(self.client, tags)

    def list_vms(self) -> list[VM]:
        """Return the VMs of all clusters in this account."""
        return find.find(self.client, {})

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """Terminate the VMs, by parallel destroy_node calls."""
        return termination.terminate(self.client, ids)

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """Return all errors."""
        return check.check(self.catalog, configs)

    def choose(self, requirements: Requirements) -> list[str]:
        """Return the cheapest or smallest sizes that fit."""
        return choose.choose(self.catalog, requirements)

    def check_choice(
        self, requirements: Requirements, sizes: Sequence[str]
    ) -> Sequence[ProviderError]:
        """Return an error for each size that does not meet the requirements."""
        return collect_rejections([lambda: choose.check_choice(self.catalog, requirements, sizes)])

    def check_pins(self, config: NodeConfig, values: Mapping[str, Any]) -> Sequence[ProviderError]:
        """Return an error: no defaults are kept."""
        return [rejection("the provider keeps no defaults")]

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """Return the price in the list of sizes."""
        return price.price(self.catalog, size, zone, spot)

    def notes(self, configs: Sequence[NodeConfig]) -> Sequence[Diagnostic]:
        """Return warnings about the driver's limitations."""
        return list(notes.notes(self.client, configs))


class FullLibcloud(Libcloud):
    """One account of OpenStack, EC2, or GCE, with more capabilities."""

    @property
    def _driver(self) -> FullDriver:
        assert isinstance(self.client.driver, FullDriver)
        return self.client.driver

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """Change the tags in place, by parallel calls."""
        termination.retag(self.client, ids, tags, removed)

    def console(self, id: str, lines: int) -> str:
        """Return the last lines of the console output."""
        return console.console(self.client, id, lines)

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """Return a security group or firewall, if the settings have `allow_from`."""
        return firewall.required_resources(self._driver, self.client.settings.allow_from, config)

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Create the group, or update its rules."""
        return firewall.prepare(self.client, resource, tags)

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """Return the cluster's own group."""
        return firewall.find_resources(self.client, tags)

    def cleanup(self, resource: Resource) -> None:
        """Delete the group."""
        firewall.cleanup(self.client, resource)

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """Allow one more network in the cluster's own group."""
        return firewall.allow(self.client, resource, network)

    def disallow(self, resource: Resource, network: str | None) -> Resource:
        """Remove a network that `allow` has added."""
        return firewall.disallow(self.client, resource, network)


def connect(settings: Settings) -> Libcloud:
    """Return the provider with its driver's capabilities; raise ProviderError for an unusable driver."""
    client = Client(settings)
    provider_class = FullLibcloud if isinstance(client.driver, FullDriver) else Libcloud
    return provider_class(client)
