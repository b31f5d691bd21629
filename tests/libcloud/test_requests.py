"""Requests of the real drivers, compared with each cloud's public API reference.

Every cloud here stores what it receives, so that a VM can be found again.
"""

from typing import Any

import pytest
from httpstub import Request, StartStub
from httpstub.launching import (
    describe_script,
    find_tags,
    format_request,
    launch_vm,
    tags_in_name,
    worker_config,
)
from inline_snapshot import snapshot

from planapply.provider import Price

END = {"links": {"next": "", "prev": ""}}  # for a list on one page


def test_digitalocean(cloud: StartStub) -> None:
    """https://docs.digitalocean.com/reference/api/digitalocean/#tag/Droplets/operation/droplets_create"""
    stub = cloud("digitalocean_v2")
    droplets: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        droplet = stub.file("list_nodes.json")["droplets"][0]
        droplets.append(droplet | {key: request.body[key] for key in ("name", "tags")})
        return 202, {"droplet": droplets[-1]}

    stub.on("GET", "/v2/sizes", "list_sizes.json")
    stub.on("GET", "/v2/images", "list_images.json")
    stub.on("GET", "/v2/regions", "list_locations.json")
    stub.on("GET", "/v2/account", {"account": {"uuid": "b6fr89dbf6d9156cace5f3c78dc9851d"}})
    stub.on("POST", "/v2/droplets", create)
    stub.on(
        "GET",
        "/v2/droplets",
        lambda request: {"droplets": droplets, "links": {}, "meta": {"total": 1}},
    )
    stub.on("DELETE", "/v2/droplets/3164444", (204, None))
    account, provider, vm = launch_vm(
        "digitalocean", worker_config(size=("512mb",), image="ubuntu-14-04-x64", zones=("nyc1",))
    )
    [request] = stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://api.digitalocean.com/v2/droplets
{
 "name": "genomics-cpu-7-0123456789abcdef0123",
 "size": "512mb",
 "image": "ubuntu-14-04-x64",
 "region": "nyc1",
 "user_data": "<the script, as text>",
 "tags": [
  "team:_42io_20_26_20_43o",
  "planapply:cluster:_47enomics",
  "planapply:lineage:0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
  "planapply:group:cpu",
  "planapply:batch:0123456789abcdef0123",
  "planapply:names:cpu-7",
  "planapply:config:CONFIG"
 ]
}\
""")
    assert find_tags(account) == vm.tags
    assert provider.identity() == snapshot(
        {"driver": "digitalocean", "account": "b6fr89dbf6d9156cace5f3c78dc9851d"}
    )
    assert provider.price("512mb", "nyc1", False) == snapshot(
        Price(usd_per_hour=0.00744, source="on demand, DigitalOcean's prices")
    )
    assert list(provider.terminate([vm.id])) == []


def test_linode(cloud: StartStub) -> None:
    """https://techdocs.akamai.com/linode-api/reference/post-linode-instance"""
    stub = cloud("linode_v4")
    linodes: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        linode = stub.file("create_node.json")
        linodes.append(linode | {key: request.body[key] for key in ("label", "tags")})
        return linodes[-1]

    stub.on("GET", "/v4/linode/types", "list_types.json")
    stub.on("GET", "/v4/images", "list_images.json")
    stub.on("GET", "/v4/regions", "list_locations.json")
    stub.on("POST", "/v4/linode/instances", create)
    stub.on("GET", "/v4/linode/instances", lambda request: {"data": linodes, "page": 1, "pages": 1})
    stub.on("DELETE", "/v4/linode/instances/45501392", {})
    account, provider, vm = launch_vm(
        "linode", worker_config(size=("g6-nanode-1",), image="linode/debian10", zones=("eu-west",))
    )
    [request] = stub.write_requests()
    password = request.body.pop("root_pass")
    assert len(password) > 30  # random, and not stored
    assert password not in repr(vm)
    assert format_request(request) == snapshot("""\
POST https://api.linode.com/v4/linode/instances
{
 "region": "eu-west",
 "type": "g6-nanode-1",
 "private_ip": false,
 "backups_enabled": false,
 "metadata": {
  "user_data": "<the script, as text, as base64>"
 },
 "image": "linode/debian10",
 "label": "genomics-cpu-7-0123456789abcdef0123",
 "tags": [
  "team:_42io_20_26_20_43o",
  "pa:cluster:_47enomics",
  "pa:lineage:0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
  "pa:group:cpu",
  "pa:batch:0123456789abcdef0123",
  "pa:names:cpu-7",
  "pa:config:CONFIG"
 ]
}\
""")
    assert find_tags(account) == vm.tags
    assert provider.price("g6-nanode-1", None, False) == snapshot(
        Price(usd_per_hour=0.0075, source="on demand, Linode (Akamai)'s prices")
    )
    assert list(provider.terminate([vm.id])) == []


def test_vultr(cloud: StartStub) -> None:
    """https://www.vultr.com/api/#tag/instances/operation/create-instance"""
    stub = cloud("vultr_v2")
    instances: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        instances.append(
            stub.file("create_node.json")["instance"] | {"label": request.body["label"]}
        )
        return 202, {"instance": instances[-1]}

    stub.on("GET", "/v2/plans", "list_sizes.json")
    stub.on("GET", "/v2/plans-metal", "ex_list_bare_metal_sizes.json")
    stub.on("GET", "/v2/os", "list_images.json")
    stub.on("GET", "/v2/regions", "list_locations.json")
    stub.on("POST", "/v2/instances", create)
    stub.on("GET", "/v2/instances", lambda request: {"instances": instances, "meta": END})
    stub.on("GET", "/v2/bare-metals", {"bare_metals": [], "meta": END})
    stub.on("DELETE", "/v2/instances/123", (204, None))
    account, provider, vm = launch_vm(
        "vultr", worker_config(size=("vc2-1c-1gb",), image="CentOS 7 x64", zones=("ams",))
    )
    [request] = stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://api.vultr.com/v2/instances
{
 "label": "genomics-cpu-7-0123456789abcdef0123-d9ac371105",
 "region": "ams",
 "plan": "vc2-1c-1gb",
 "enable_ipv6": false,
 "activation_email": false,
 "os_id": "167",
 "user_data": "<the script, as text, as base64>"
}\
""")
    assert find_tags(account) == tags_in_name(vm)
    assert provider.price("vc2-1c-1gb", None, False) == snapshot(
        Price(usd_per_hour=0.00684931506849315, source="on demand, Vultr's prices")
    )
    assert list(provider.terminate([vm.id])) == []


def test_scaleway(cloud: StartStub) -> None:
    """https://www.scaleway.com/en/developers/api/instances/#path-instances-create-an-instance"""
    stub = cloud("scaleway")
    servers: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        server = stub.file("create_node.json")["server"]
        servers.append(server | {key: request.body[key] for key in ("name", "tags")})
        return 201, {"server": servers[-1]}

    stub.on("GET", "/products/servers", "list_sizes.json")
    stub.on("GET", "/products/servers/availability", "list_availability.json")
    stub.on("GET", "/images", "list_images.json")
    stub.on("POST", "/servers", create)
    stub.on("POST", "/servers/741db378/action", (202, {"task": {}}))
    stub.on("GET", "/servers", lambda request: {"servers": servers})
    account, provider, vm = launch_vm(
        "scaleway", worker_config(size=("ARM64-4GB",), image="12345"), secret="env:CLOUD_SECRET"
    )
    assert "\n".join(map(format_request, stub.write_requests())) == snapshot("""\
POST https://cp-par1.scaleway.com/servers
{
 "name": "genomics-cpu-7-0123456789abcdef0123",
 "organization": "the-key",
 "image": "12345",
 "volumes": {
  "1": {
   "name": "genomics-cpu-7-0123456789abcdef0123-1",
   "organization": "the-key",
   "size": 50000000000,
   "volume_type": "l_ssd"
  }
 },
 "commercial_type": "ARM64-4GB",
 "tags": [
  "team:_42io_20_26_20_43o",
  "planapply:cluster:_47enomics",
  "planapply:lineage:0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
  "planapply:group:cpu",
  "planapply:batch:0123456789abcdef0123",
  "planapply:names:cpu-7",
  "planapply:config:CONFIG"
 ]
}
POST https://cp-par1.scaleway.com/servers/741db378/action
{
 "action": "poweron"
}\
""")
    assert find_tags(account) == vm.tags
    assert list(provider.terminate([vm.id])) == []
    assert format_request(stub.write_requests()[-1]) == snapshot("""\
POST https://cp-par1.scaleway.com/servers/741db378/action
{
 "action": "terminate"
}\
""")


def test_equinix_metal(cloud: StartStub) -> None:
    """https://deploy.equinix.com/developers/api/metal/#tag/Devices/operation/createDevice"""
    stub = cloud("equinixmetal")
    project = "3d27fd13-0466-4878-be22-9a4b5595a3df"
    devices: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        device = stub.file("device_create.json")
        devices.append(device | {"hostname": request.body["hostname"]})
        return 201, devices[-1]

    stub.on("GET", f"/metal/v1/projects/{project}/plans", "plans.json")
    stub.on("GET", "/metal/v1/projects", "projects.json")
    stub.on("GET", "/metal/v1/operating-systems", "operatingsystems.json")
    stub.on("GET", "/metal/v1/locations/metros", "metros.json")
    stub.on("POST", f"/metal/v1/projects/{project}/devices", create)
    stub.on("GET", f"/metal/v1/projects/{project}/devices", lambda request: {"devices": devices})
    account, _, vm = launch_vm(
        "equinixmetal",
        worker_config(size=("baremetal_1",), image="ubuntu_14_04", zones=("Dallas",)),
        create={"ex_project_id": project},
    )
    [request] = stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://api.equinix.com/metal/v1/projects/3d27fd13-0466-4878-be22-9a4b5595a3df/devices
{
 "hostname": "genomics-cpu-7-0123456789abcdef0123-d9ac371105",
 "plan": "baremetal_1",
 "operating_system": "ubuntu_14_04",
 "metro": "da",
 "include": "plan",
 "billing_cycle": "hourly",
 "userdata": "<the script, as text>"
}\
""")
    assert find_tags(account) == tags_in_name(vm)


@pytest.mark.parametrize("driver", ["exoscale", "cloudstack"])
def test_cloudstack(cloud: StartStub, driver: str) -> None:
    """https://cloudstack.apache.org/api/apidocs-4.19/apis/deployVirtualMachine.html"""
    stub = cloud("cloudstack")
    machines: list[dict[str, Any]] = []

    def api(request: Request) -> Any:
        command = request.query["command"][0]
        if command == "listVirtualMachines":
            return {"listvirtualmachinesresponse": {"virtualmachine": machines}}
        if command == "queryAsyncJobResult":
            return {
                "queryasyncjobresultresponse": {
                    "jobstatus": 1,
                    "jobresult": {"virtualmachine": machines[-1]},
                }
            }
        if command == "deployVirtualMachine":
            known = stub.file("listVirtualMachines_default.json")
            machine = known["listvirtualmachinesresponse"]["virtualmachine"][0]
            machines.append(machine | {"name": request.query["name"][0]})
        return f"{command}_default.json"

    stub.on("GET", ".*", api)
    options = {"url": "https://cloud.example.com/client/api"} if driver == "cloudstack" else {}
    account, _, vm = launch_vm(
        driver,
        worker_config(size=("Compute Micro PRD",), image="576"),
        secret="env:CLOUD_SECRET",
        options=options,
    )
    request = next(s for s in stub.requests if s.query["command"] == ["deployVirtualMachine"])
    query = {
        k: v[0] for k, v in request.query.items() if k not in ("signature", "response", "apiKey")
    }
    assert describe_script(query.pop("userdata")) == "<the script, compressed, as base64>"
    assert query == snapshot(
        {
            "name": "genomics-cpu-7-0123456789abcdef0123-d9ac371105",
            "serviceofferingid": "105",
            "templateid": "576",
            "zoneid": "1",
            "startvm": "True",
            "command": "deployVirtualMachine",
        }
    )
    assert find_tags(account) == tags_in_name(vm)


def test_ovh(cloud: StartStub) -> None:
    """https://eu.api.ovh.com/console/?section=%2Fcloud&branch=v1#post-/cloud/project/-serviceName-/instance"""
    stub = cloud("ovh")
    instances: list[dict[str, Any]] = []
    prefix = "/1.0/cloud/project/project-id"

    def create(request: Request) -> Any:
        known = stub.file("instance_get.json")[0]
        instances.append(known | {"name": request.body["name"]})
        return instances[-1]

    stub.on("GET", "/1.0/auth/time", "auth_time_get.json")
    stub.on("GET", f"{prefix}/flavor", "flavor_get.json")
    stub.on("GET", f"{prefix}/image", "image_get.json")
    stub.on("GET", f"{prefix}/region", "region_get.json")
    stub.on("POST", f"{prefix}/instance", create)
    stub.on("GET", f"{prefix}/instance", lambda request: instances)
    account, provider, vm = launch_vm(
        "ovh",
        worker_config(size=("foo-id",), image="foo-id", zones=("SBG1",)),
        secret="env:CLOUD_SECRET",
        options={"ex_project_id": "project-id", "ex_consumer_key": "env:CLOUD_KEY"},
    )
    [request] = stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://api.ovh.com/1.0/cloud/project/project-id/instance
{
 "name": "genomics-cpu-7-0123456789abcdef0123-d9ac371105",
 "imageId": "foo-id",
 "flavorId": "foo-id",
 "region": "SBG1"
}\
""")
    assert find_tags(account) == tags_in_name(vm)
    assert provider.limits.user_data == 0


def test_upcloud(cloud: StartStub) -> None:
    """https://developers.upcloud.com/1.3/8-servers/#create-server"""
    stub = cloud("upcloud")
    servers: list[dict[str, Any]] = []

    def create(request: Request) -> Any:
        known = stub.file("api_1_2_server_from_template.json")["server"]
        servers.append(known | {"title": request.body["server"]["title"]})
        return 202, {"server": servers[-1]}

    stub.on("GET", "/1.2/plan", "api_1_2_plan.json")
    stub.on("GET", "/1.2/price", "api_1_2_price.json")
    stub.on("GET", "/1.2/zone", "api_1_2_zone.json")
    stub.on("GET", "/1.2/storage/template", "api_1_2_storage_template.json")
    stub.on("GET", "/1.2/storage/cdrom", "api_1_2_storage_cdrom.json")
    stub.on("POST", "/1.2/server", create)
    stub.on("GET", "/1.2/server", lambda request: {"servers": {"server": servers}})
    stub.on("GET", "/1.2/server/.*", lambda request: {"server": servers[0]})
    account, _, vm = launch_vm(
        "upcloud",
        worker_config(
            size=("1xCPU-1GB",), image="Ubuntu Server 16.04 LTS (Xenial Xerus)", zones=("fi-hel1",)
        ),
        secret="env:CLOUD_SECRET",
    )
    [request] = stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://api.upcloud.com/1.2/server
{
 "server": {
  "title": "genomics-cpu-7-0123456789abcdef0123-d9ac371105",
  "hostname": "localhost",
  "plan": "1xCPU-1GB",
  "zone": "fi-hel1",
  "login_user": {
   "username": "root",
   "create_password": "yes"
  },
  "storage_devices": {
   "storage_device": [
    {
     "action": "clone",
     "storage": "01000000-0000-4000-8000-000030060200",
     "title": "Ubuntu Server 16.04 LTS (Xenial Xerus)",
     "size": 30,
     "tier": "maxiops"
    }
   ]
  }
 }
}\
""")
    assert find_tags(account) == tags_in_name(vm)
