"""Requests of Libcloud to Azure, compared with the REST reference of its virtual machines."""

from typing import Any

import pytest
from httpstub import Request, StartStub, StubServer
from httpstub.launching import find_tags, format_request, launch_vm, worker_config
from inline_snapshot import snapshot

from planapply.provider import ErrorKind, ProviderError

GROUP = "/subscriptions/99999999/resourceGroups/dask"
MACHINES = f"{GROUP}/providers/Microsoft.Compute/virtualMachines"
INTERFACES = f"{GROUP}/providers/Microsoft.Network/networkInterfaces"
WORKER = worker_config(
    size=("Standard_A1",),
    image="Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2:latest",
    disk=64 << 30,
)
SETTINGS: dict[str, Any] = {
    "secret": "env:CLOUD_SECRET",
    "options": {
        "tenant_id": "77777777-7777-7777-7777-777777777777",
        "subscription_id": "99999999",
        "region": "eastus",
    },
    "create": {"ex_resource_group": "dask", "ex_network": "dask", "auth": "ssh-ed25519 AAAA me"},
}


class Azure:
    """Resource group that stores what it receives."""

    def __init__(self, stub: StubServer) -> None:
        self.stub = stub
        self.machines: dict[str, dict[str, Any]] = {}
        self.interfaces: list[str] = []
        stub.on(
            "POST",
            "/77777777-7777-7777-7777-777777777777/oauth2/token",
            {"access_token": "t", "expires_on": "9999999999"},
        )
        compute = "_subscriptions_99999999_providers_Microsoft_Compute"
        stub.on(
            "GET",
            "/subscriptions/99999999/providers/Microsoft.Compute/locations/eastus/vmSizes",
            f"{compute}_locations_eastus_vmSizes.json",
        )
        stub.on("GET", "/subscriptions/99999999/providers/Microsoft.Compute", f"{compute}.json")
        stub.on("PUT", f"{INTERFACES}/.*", self.make_interface)
        stub.on("DELETE", f"{INTERFACES}/.*", self.delete_interface)
        stub.on("GET", f"{INTERFACES}/.*", self.interface)
        stub.on("PUT", f"{MACHINES}/.*", self.make_machine)
        stub.on("GET", f"{MACHINES}/.*/InstanceView", {"statuses": []})
        stub.on("DELETE", f"{MACHINES}/.*", (202, None))
        stub.on("GET", MACHINES, lambda request: {"value": [*self.machines.values()]})

    def make_interface(self, request: Request) -> Any:
        self.interfaces.append(request.path)
        return 201, {"id": request.path, "name": "", **request.body}

    def delete_interface(self, request: Request) -> Any:
        self.interfaces.remove(request.path)
        return 202, None

    def interface(self, request: Request) -> Any:
        address = {"properties": {"privateIPAddress": "10.0.0.5"}}
        return {
            "id": request.path,
            "name": "",
            "location": "eastus",
            "properties": {"ipConfigurations": [address]},
        }

    def make_machine(self, request: Request) -> Any:
        body = request.body
        machine = {**body, "properties": {**body["properties"], "provisioningState": "Creating"}}
        self.machines[request.path] = machine
        return 201, machine


@pytest.fixture
def azure(cloud: StartStub) -> Azure:
    return Azure(cloud("azure_arm"))


def test_create_machine(azure: Azure) -> None:
    """https://learn.microsoft.com/rest/api/compute/virtual-machines/create-or-update?view=rest-compute-2021-11-01"""
    account, provider, vm = launch_vm("azure", WORKER, **SETTINGS)
    interface, request = azure.stub.write_requests()
    assert len(request.body["properties"]["osProfile"].pop("adminPassword")) >= 32
    assert format_request(interface) == snapshot("""\
PUT https://management.azure.com/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Network/networkInterfaces/genomics-cpu-7-0123456789abcdef0123-nic
{
 "location": "eastus",
 "tags": {},
 "properties": {
  "ipConfigurations": [
   {
    "name": "myip1",
    "properties": {
     "subnet": {
      "id": "/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Network/virtualnetworks/dask/subnets/default"
     },
     "privateIPAllocationMethod": "Dynamic"
    }
   }
  ]
 }
}\
""")
    assert format_request(request) == snapshot("""\
PUT https://management.azure.com/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Compute/virtualMachines/genomics-cpu-7-0123456789abcdef0123
{
 "id": "/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Compute/virtualMachines/genomics-cpu-7-0123456789abcdef0123",
 "name": "genomics-cpu-7-0123456789abcdef0123",
 "type": "Microsoft.Compute/virtualMachines",
 "location": "eastus",
 "tags": {
  "team": "Bio & Co",
  "Name": "Genomics cpu",
  "planapply:cluster": "Genomics",
  "planapply:lineage": "0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
  "planapply:group": "cpu",
  "planapply:batch": "0123456789abcdef0123",
  "planapply:names": "cpu-7",
  "planapply:config": "CONFIG"
 },
 "properties": {
  "hardwareProfile": {
   "vmSize": "Standard_A1"
  },
  "storageProfile": {
   "imageReference": {
    "publisher": "Canonical",
    "offer": "0001-com-ubuntu-server-jammy",
    "sku": "22_04-lts-gen2",
    "version": "latest"
   },
   "osDisk": {
    "name": "genomics-cpu-7-0123456789abcdef0123",
    "osType": "linux",
    "caching": "ReadWrite",
    "createOption": "FromImage",
    "deleteOption": "Delete",
    "managedDisk": {
     "storageAccountType": "Standard_LRS"
    },
    "diskSizeGB": 64
   }
  },
  "osProfile": {
   "computerName": "genomics-cpu-7-0123456789abcdef0123",
   "customData": "<the script, compressed, as base64>",
   "adminUsername": "azureuser",
   "linuxConfiguration": {
    "disablePasswordAuthentication": "true",
    "ssh": {
     "publicKeys": [
      {
       "path": "/home/azureuser/.ssh/authorized_keys",
       "keyData": "ssh-ed25519 AAAA me"
      }
     ]
    }
   }
  },
  "networkProfile": {
   "networkInterfaces": [
    {
     "id": "/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Network/networkInterfaces/genomics-cpu-7-0123456789abcdef0123-nic",
     "properties": {
      "deleteOption": "Delete"
     }
    }
   ]
  }
 }
}\
""")
    assert request.query == {"api-version": ["2021-11-01"]}
    assert find_tags(account) == vm.tags
    assert provider.identity() == snapshot(
        {"driver": "azure_arm", "subscription_id": "99999999", "region": "eastus"}
    )


def test_only_the_schedulers_address_needs_a_call(azure: Azure) -> None:
    account, provider, vm = launch_vm("azure", WORKER, **SETTINGS)
    account.launch("cpu-8")
    account.launch("scheduler", group="scheduler", scheduler=None, cls="distributed.Scheduler")
    before = len(azure.stub.requests)
    addresses = {str(vm.name): vm.private_address for vm in account.find()}
    assert addresses == {"cpu-7": None, "cpu-8": None, "scheduler": "10.0.0.5"}
    assert len(azure.stub.requests) - before == 2
    assert list(provider.terminate([vm.id])) == []
    assert format_request(azure.stub.write_requests()[-1]) == snapshot("""\
DELETE https://management.azure.com/subscriptions/99999999/resourceGroups/dask/providers/Microsoft.Compute/virtualMachines/genomics-cpu-7-0123456789abcdef0123
null\
""")


def test_random_password_is_set_without_a_key(azure: Azure) -> None:
    settings = {**SETTINGS, "create": {"ex_resource_group": "dask", "ex_network": "dask"}}
    launch_vm("azure", WORKER, **settings)
    profile = azure.stub.write_requests()[-1].body["properties"]["osProfile"]
    assert profile["linuxConfiguration"] == {"disablePasswordAuthentication": "false"}
    assert len(profile["adminPassword"]) > 40


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SkuNotAvailable", ErrorKind.CAPACITY),
        ("AllocationFailed", ErrorKind.CAPACITY),
        ("QuotaExceeded", ErrorKind.QUOTA),
        ("InvalidParameter", ErrorKind.REJECTED),
    ],
)
def test_resources_of_a_refused_machine_are_removed(
    azure: Azure, code: str, kind: ErrorKind
) -> None:
    refusal = {"error": {"code": code, "message": "no"}}
    azure.stub.on("PUT", f"{MACHINES}/.*", (409, refusal))
    with pytest.raises(ProviderError) as raised:
        launch_vm("azure", WORKER, **SETTINGS)
    assert raised.value.kind is kind
    assert azure.interfaces == []


def test_unclear_response_removes_nothing(azure: Azure) -> None:
    azure.stub.on("PUT", f"{MACHINES}/.*", (500, {"error": {"code": "?", "message": "oops"}}))
    with pytest.raises(ProviderError) as raised:
        launch_vm("azure", WORKER, **SETTINGS)
    assert raised.value.kind is ErrorKind.UNKNOWN
    assert len(azure.interfaces) == 1
