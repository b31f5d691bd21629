"""Starters and examples for Libcloud: each is valid, and can be planned with the cloud's lists."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from cli.commands import Run
from httpstub import StartStub, StubServer
from httpstub.launching import rsa_key
from inline_snapshot import snapshot
from novalab.cloud import Cloud

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["openstack", "gce", "digitalocean", "azure", "linode", "vultr"]


@pytest.fixture
def credentials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value of every variable that a spec names."""
    for path in EXAMPLES.glob("*.toml"):
        for name in re.findall(r'"env:(\w+)"', path.read_text()):
            monkeypatch.setenv(name, f"the-{name.lower()}")
    Path("key.pem").write_text(rsa_key())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(Path("key.pem").absolute()))


@pytest.mark.parametrize("driver", [*NAMES, "ec2", "exoscale", "vcloud"])
def test_starter_is_valid_and_names_its_driver(run: Run, driver: str) -> None:
    begun = run("init", "--provider", "libcloud", "--set", f'provider.driver="{driver}"')
    assert begun.code == 0, begun.err
    document = tomli.loads(Path("planapply.toml").read_text())
    assert document["provider"]["driver"] == driver
    validated = run("validate")
    assert validated.code == 0, validated.err


def test_starter_without_a_driver_uses_openstack(run: Run) -> None:
    assert run("init", "--provider", "libcloud").code == 0
    assert 'driver = "openstack"' in Path("planapply.toml").read_text()


def test_starter_refuses_settings_that_it_would_drop(run: Run) -> None:
    result = run("init", "--provider", "libcloud", "--set", 'provider.region="mars"')
    assert (result.code, result.err) == (
        1,
        snapshot("""\
Error: cannot apply `--set provider.region` to a starter of provider libcloud
  Remove the option, and edit the file instead.
"""),
    )
    assert not Path("planapply.toml").exists()
    assert run("init", "--set", "provider.driver=openstack").code == 1


@pytest.mark.parametrize("name", NAMES)
def test_example_is_valid(run: Run, name: str) -> None:
    result = run("validate", "-f", str(EXAMPLES / f"{name}.toml"))
    assert result.code == 0, result.err


def has(stub: StubServer, file: str, where: str, **values: list[Any]) -> Any:
    """Return a list in Libcloud's files, with entries that have these values."""
    document = stub.file(file)
    entries = document[where]
    count = max(map(len, values.values()))
    document[where] = [
        copy.deepcopy(entries[0]) | {key: value[i] for key, value in values.items()}
        for i in range(count)
    ]
    return document


def digitalocean(cloud: StartStub) -> None:
    stub = cloud("digitalocean_v2")
    slugs = ["s-2vcpu-4gb", "c-4", "s-4vcpu-8gb"]
    stub.on("GET", "/v2/sizes", has(stub, "list_sizes.json", "sizes", slug=slugs))
    images = has(stub, "list_images.json", "images", slug=["debian-12-x64"])
    stub.on("GET", "/v2/images", images)
    stub.on("GET", "/v2/regions", has(stub, "list_locations.json", "regions", slug=["fra1"]))
    stub.on("GET", "/v2/account", {"account": {"uuid": "1"}})
    stub.on("GET", "/v2/droplets", "list_nodes_empty.json")


def linode(cloud: StartStub) -> None:
    stub = cloud("linode_v4")
    types = has(stub, "list_types.json", "data", id=["g6-standard-2", "g6-dedicated-4"])
    stub.on("GET", "/v4/linode/types", types)
    stub.on("GET", "/v4/images", has(stub, "list_images.json", "data", id=["linode/debian12"]))
    stub.on("GET", "/v4/regions", has(stub, "list_locations.json", "data", id=["eu-central"]))
    stub.on("GET", "/v4/linode/instances", {"data": [], "page": 1, "pages": 1})


def vultr(cloud: StartStub) -> None:
    stub = cloud("vultr_v2")
    plans = has(stub, "list_sizes.json", "plans", id=["vc2-2c-4gb", "vc2-4c-8gb"])
    systems = has(stub, "list_images.json", "os", name=["Debian 12 x64 (bookworm)"])
    end = {"links": {"next": "", "prev": ""}}
    stub.on("GET", "/v2/plans", plans)
    stub.on("GET", "/v2/plans-metal", "ex_list_bare_metal_sizes.json")
    stub.on("GET", "/v2/os", systems)
    stub.on("GET", "/v2/regions", has(stub, "list_locations.json", "regions", id=["fra"]))
    stub.on("GET", "/v2/instances", {"instances": [], "meta": end})
    stub.on("GET", "/v2/bare-metals", {"bare_metals": [], "meta": end})


def gce(cloud: StartStub) -> None:
    stub = cloud("gce")
    compute, zone = "/compute/v1/projects/my-project", "europe-west1-b"
    sizes = ["e2-standard-2", "c2-standard-4", "n2-standard-4"]
    types = has(stub, "zones_us-central1-a_machineTypes.json", "items", name=sizes)
    link = f"https://www.googleapis.com{compute}/zones/{zone}"
    zones = has(stub, "zones.json", "items", name=[zone], selfLink=[link])
    for entry in types["items"]:
        entry["zone"] = zone
    stub.on("POST", "/o/oauth2/token", {"access_token": "t", "expires_in": 3600})
    stub.on("GET", f"{compute}/zones", zones)
    regions = has(stub, "regions.json", "items", name=["europe-west1"], zones=[[link]])
    stub.on("GET", f"{compute}/regions", regions)
    stub.on("GET", f"{compute}/zones/{zone}/machineTypes", types)
    stub.on("GET", ".*/images/family/debian-12", stub.file("global_images.json")["items"][0])
    stub.on("GET", f"{compute}/aggregated/instances", {"items": {}})
    stub.on("GET", f"{compute}/aggregated/disks", {"items": {}})


def azure(cloud: StartStub) -> None:
    stub = cloud("azure_arm")
    compute = "/subscriptions/the-azure_subscription_id/providers/Microsoft.Compute"
    group = "/subscriptions/the-azure_subscription_id/resourceGroups/dask/providers"
    file = "_subscriptions_99999999_providers_Microsoft_Compute_locations_eastus_vmSizes.json"
    sizes = ["Standard_D2s_v5", "Standard_F4s_v2", "Standard_D4s_v5"]
    token = {"access_token": "t", "expires_on": "9999999999"}
    stub.on("POST", "/the-azure_tenant_id/oauth2/token", token)
    stub.on("GET", f"{compute}/locations/westeurope/vmSizes", has(stub, file, "value", name=sizes))
    stub.on("GET", f"{group}/Microsoft.Compute/virtualMachines", {"value": []})


CLOUDS: dict[str, Callable[[StartStub], None]] = {
    "gce": gce,
    "digitalocean": digitalocean,
    "azure": azure,
    "linode": linode,
    "vultr": vultr,
}


@pytest.mark.usefixtures("credentials")
def test_examples_can_be_planned(run: Run, cloud: StartStub) -> None:
    output = []
    for name, serve in CLOUDS.items():
        serve(cloud)
        state = str(Path("example.state.json").absolute())
        result = run("plan", "-f", str(EXAMPLES / f"{name}.toml"), "--state", state)
        assert result.code == 0, result.err
        output.append(result.out + result.err)
    assert "\n".join(output) == snapshot("""\
planapply will change cluster "gce-example" (libcloud, gce):

  +   firewall          supporting resource
  +   scheduler         e2-standard-2
  +   cpu-[0-3]   (4)   c2-standard-4  spot

Plan: 6 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 0.95 USD/h (on demand, libcloud prices of 2025-03-02; prices in the spec)
Not counted: disks, addresses, traffic.
Access: ports 8786, 8787 from 203.0.113.0/24

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].

planapply will change cluster "digitalocean-example" (libcloud, digitalocean):

  +   scheduler         s-2vcpu-4gb
  +   cpu-[0-3]   (4)   c-4

Plan: 5 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 0.04 USD/h (on demand, DigitalOcean's prices)
Not counted: disks, addresses, traffic.

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].

planapply will change cluster "azure-example" (libcloud, azure):

  +   scheduler         Standard_D2s_v5
  +   cpu-[0-3]   (4)   Standard_F4s_v2

Plan: 5 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> unknown (no price known for Standard_D2s_v5, Standard_F4s_v2)
Not counted: disks, addresses, traffic.

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].

planapply will change cluster "linode-example" (libcloud, linode):

  +   scheduler         g6-standard-2
  +   cpu-[0-3]   (4)   g6-dedicated-4

Plan: 5 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 0.04 USD/h (on demand, Linode (Akamai)'s prices)
Not counted: disks, addresses, traffic.

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].

planapply will change cluster "vultr-example" (libcloud, vultr):

  +   scheduler         vc2-2c-4gb
  +   cpu-[0-3]   (4)   vc2-4c-8gb

Plan: 5 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> 0.03 USD/h (on demand, Vultr's prices)
Not counted: disks, addresses, traffic.

Warning: the Vultr driver does not support tags
  planapply finds VMs by their names: do not rename them.

Note: nothing terminates this cluster but `planapply destroy`
  To terminate an idle or a forgotten cluster, set `idle_timeout`, `no_client_timeout`, or `ttl`
  under [cluster].
""")


@pytest.mark.slow
def test_openstack_example_can_be_planned(nova: Cloud, run: Run) -> None:
    text = (EXAMPLES / "openstack.toml").read_text()
    for old, new in {
        "https://cloud.example.com:5000": f"{nova.url}/identity",
        "my-project": "research",
        "debian-12": "fakeimage7",
    }.items():
        assert old in text
        text = text.replace(old, new)
    Path("planapply.toml").write_text(text)
    result = run("plan")
    assert result.code == 0
    assert result.err.startswith("\nNote: nothing terminates this cluster")
    assert result.out == snapshot("""\
planapply will change cluster "openstack-example" (libcloud, openstack):

  +   firewall          supporting resource
  +   scheduler         m1.medium
  +   cpu-[0-3]   (4)   m1.xlarge

Plan: 6 to add, 0 to change, 0 to destroy.
Cost: 0.00 USD/h -> unknown (no price known for m1.medium, m1.xlarge)
Not counted: disks, addresses, traffic.
Access: ports 8786, 8787 from 203.0.113.0/24
""")
