"""The provider `libcloud`: each verb of the port is a file beside this one."""

from collections.abc import Mapping, Sequence

from planapply.model.diagnostics import Diagnostic
from planapply.model.node import VM, NodeConfig, Requirements
from planapply.model.state import Choice, Resource
from planapply.provider import LaunchRequest, LaunchResult, Limits, Price, ProviderError
from planapply_libcloud import check, choose, console, find, firewall, labels, launch, notes, price
from planapply_libcloud import terminate as termination
from planapply_libcloud.catalog import Catalog
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.settings import Settings


class Libcloud:
    """One account of one cloud, as far as every driver can."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.catalog = Catalog(client)

    @property
    def limits(self) -> Limits:
        """One VM a call; tokens, where the cloud has any, are its own."""
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
        """The driver, and what of its options and answers says whose cloud it is."""
        driver, options = self.client.driver, self.client.settings.options
        known = {
            key: self.client.resolve_text(options[key]) for key in driver.identity if key in options
        }
        with self.client.borrow_driver() as lib:
            return {"driver": driver.name, **known, **driver.find_account(lib)}

    def alternatives(self, config: NodeConfig) -> Sequence[Choice]:
        """Each size in each zone."""
        return launch.alternatives(config)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """One create_node."""
        return launch.launch(self.client, self.catalog, request)

    def find(self, tags: Mapping[str, str]) -> list[VM]:
        """One list_nodes."""
        return find.find(self.client, tags)

    def list_vms(self) -> list[VM]:
        """Of any cluster in this account."""
        return find.find(self.client, {})

    def terminate(self, ids: Sequence[str]) -> Sequence[str]:
        """One destroy_node for each, side by side."""
        return termination.terminate(self.client, ids)

    def check(self, configs: Sequence[NodeConfig]) -> Sequence[ProviderError]:
        """All that is wrong."""
        return check.check(self.catalog, configs)

    def choose(self, requirements: Requirements) -> list[str]:
        """By price, where there is one."""
        return choose.choose(self.catalog, requirements)

    def price(self, size: str | None, zone: str | None, spot: bool) -> Price:
        """From list_sizes."""
        return price.price(self.catalog, size, zone, spot)

    def notes(self, configs: Sequence[NodeConfig]) -> Sequence[Diagnostic]:
        """What this driver can't do."""
        return list(notes.notes(self.client, configs))


class FullLibcloud(Libcloud):
    """With what OpenStack, EC2 and GCE can do besides."""

    @property
    def _driver(self) -> FullDriver:
        assert isinstance(self.client.driver, FullDriver)
        return self.client.driver

    def retag(self, ids: Sequence[str], tags: Mapping[str, str], removed: Sequence[str]) -> None:
        """In place, side by side."""
        termination.retag(self.client, ids, tags, removed)

    def console(self, id: str, lines: int) -> str:
        """The end of what it printed."""
        return console.console(self.client, id, lines)

    def required_resources(self, cluster: str, config: NodeConfig) -> dict[str, Resource]:
        """A security group or firewall, where `allow_from` names somebody."""
        return firewall.required_resources(self._driver, self.client.settings.allow_from, config)

    def prepare(self, name: str, resource: Resource, tags: Mapping[str, str]) -> Resource:
        """Make it, or bring its rules to what is wanted."""
        return firewall.prepare(self.client, resource, tags)

    def find_resources(self, tags: Mapping[str, str]) -> dict[str, Resource]:
        """By their names."""
        return firewall.find_resources(self.client, tags)

    def cleanup(self, resource: Resource) -> None:
        """Remove it."""
        firewall.cleanup(self.client, resource)

    def allow(self, resource: Resource, network: str | None) -> Resource:
        """One more network."""
        return firewall.allow(self.client, resource, network)


def connect(settings: Settings) -> Libcloud:
    """With what its driver can do; raises ProviderError for a driver that there is not."""
    client = Client(settings)
    provider_class = FullLibcloud if isinstance(client.driver, FullDriver) else Libcloud
    return provider_class(client)
