"""Requests of Libcloud to Google, compared with the reference of the Compute Engine API, v1."""

from typing import Any

import pytest
from httpstub import Request, StartStub, StubServer
from httpstub.launching import find_tags, format_request, launch_vm, rsa_key, worker_config
from inline_snapshot import snapshot

from planapply.provider import ErrorKind, Price, ProviderError

COMPUTE = "/compute/v1/projects/project_name"
ZONE = f"{COMPUTE}/zones/us-central1-a"
IMAGE = "https://www.googleapis.com/compute/v1/projects/debian-cloud/global/images/debian-12-v1"
WORKER = worker_config(
    size=("n1-standard-1",),
    image="debian-cloud/debian-12",
    zones=("us-central1-a",),
    spot=True,
    disk=50 << 30,
)
SETTINGS: dict[str, Any] = {
    "key": "planapply@project.iam.gserviceaccount.com",
    "secret": "env:CLOUD_SECRET",
    "options": {"project": "project_name", "datacenter": "us-central1-a"},
    "allow_from": ["203.0.113.0/24"],
}


class Google:
    """Project that stores instances and firewall rules as it receives them."""

    def __init__(self, stub: StubServer) -> None:
        self.stub = stub
        self.instances: list[dict[str, Any]] = []
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.operation: dict[str, Any] = {"status": "DONE"}
        image = stub.file("global_images.json")["items"][0]
        files = {
            f"{COMPUTE}/zones": "zones.json",
            f"{COMPUTE}/regions": "regions.json",
            f"{ZONE}/machineTypes": "zones_us-central1-a_machineTypes.json",
            f"{COMPUTE}/aggregated/disks": "aggregated_disks.json",
            f"{COMPUTE}/global/networks/default": "global_networks_default.json",
            f"{ZONE}/diskTypes/pd-standard": "zones_us-central1-a_diskTypes_pd_standard.json",
            ".*/debian-cloud/global/images/family/debian-12": {**image, "selfLink": IMAGE},
        }
        for path, reply in files.items():
            stub.on("GET", path, reply)
        stub.on("POST", "/o/oauth2/token", {"access_token": "t", "expires_in": 3600})
        stub.on("GET", ".*/operations/.*", lambda request: self.operation)
        stub.on(
            "GET",
            f"{COMPUTE}/aggregated/instances",
            lambda request: {"items": {"zones/us-central1-a": {"instances": self.instances}}},
        )
        stub.on("POST", f"{ZONE}/instances", self.insert)
        stub.on("GET", f"{ZONE}/instances/.*", lambda request: self.instances[0])
        stub.on("DELETE", f"{ZONE}/instances/.*", self._accepted)
        stub.on("POST", f"{ZONE}/instances/.*/set(Labels|Metadata|Tags)", self.change)
        rules = f"{COMPUTE}/global/firewalls"
        stub.on("GET", rules, lambda request: {"items": [*self.firewalls.values()]})
        stub.on("GET", f"{rules}/.*", lambda request: self.firewalls[_last(request)])
        stub.on("POST", rules, self.insert_firewall)
        stub.on("PUT", f"{rules}/.*", self.insert_firewall)
        stub.on("DELETE", f"{rules}/.*", self.delete_firewall)

    def _accepted(self, request: Request) -> dict[str, Any]:
        link = f"https://www.googleapis.com{ZONE}/operations/operation-1"
        return {"status": "PENDING", "selfLink": link}

    def insert(self, request: Request) -> Any:
        known = self.stub.file("aggregated_instances.json")["items"]["zones/us-central1-a"]
        instance = {**known["instances"][0], "name": request.body["name"]}
        instance |= {"labels": request.body["labels"], "labelFingerprint": "a"}
        instance["metadata"] = {"fingerprint": "b", **request.body["metadata"]}
        instance["tags"] = {"fingerprint": "c", **request.body.get("tags", {})}
        self.instances.append(instance)
        return self._accepted(request)

    def change(self, request: Request) -> Any:
        if request.path.endswith("setLabels"):
            self.instances[0]["labels"] = request.body["labels"]
        elif request.path.endswith("setTags"):
            self.instances[0]["tags"] = request.body
        else:
            self.instances[0]["metadata"] = request.body
        return self._accepted(request)

    def insert_firewall(self, request: Request) -> Any:
        self.firewalls[request.body["name"]] = {"id": request.body["name"], **request.body}
        return self._accepted(request)

    def delete_firewall(self, request: Request) -> Any:
        del self.firewalls[_last(request)]
        return self._accepted(request)


def _last(request: Request) -> str:
    return request.path.rpartition("/")[2]


@pytest.fixture
def google(cloud: StartStub, monkeypatch: pytest.MonkeyPatch) -> Google:
    monkeypatch.setenv("CLOUD_SECRET", rsa_key())
    return Google(cloud("gce"))


def test_create_instance(google: Google) -> None:
    """https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert"""
    account, provider, vm = launch_vm("gce", WORKER, **SETTINGS)
    [request] = google.stub.write_requests()
    assert format_request(request) == snapshot("""\
POST https://www.googleapis.com/compute/v1/projects/project_name/zones/us-central1-a/instances
{
 "disks": [
  {
   "autoDelete": true,
   "boot": true,
   "type": "PERSISTENT",
   "mode": "READ_WRITE",
   "deviceName": "genomics-cpu-7-0123456789abcdef0123",
   "initializeParams": {
    "diskName": "genomics-cpu-7-0123456789abcdef0123",
    "diskSizeGb": 50,
    "diskType": "https://content.googleapis.com/compute/v1/projects/project_name/zones/us-central1-a/diskTypes/pd-standard",
    "sourceImage": "https://www.googleapis.com/compute/v1/projects/debian-cloud/global/images/debian-12-v1"
   }
  }
 ],
 "networkInterfaces": [
  {
   "kind": "compute#instanceNetworkInterface",
   "network": "https://www.googleapis.com/compute/v1/projects/project_name/global/networks/default",
   "accessConfigs": [
    {
     "name": "External NAT",
     "type": "ONE_TO_ONE_NAT"
    }
   ]
  }
 ],
 "scheduling": {
  "preemptible": true,
  "onHostMaintenance": "TERMINATE",
  "automaticRestart": false
 },
 "serviceAccounts": [
  {
   "email": "default",
   "scopes": [
    "https://www.googleapis.com/auth/devstorage.read_only"
   ]
  }
 ],
 "metadata": {
  "fingerprint": "na",
  "items": [
   {
    "key": "startup-script",
    "value": "<the script, as text>"
   },
   {
    "key": "planapply",
    "value": "{\\"team\\":\\"Bio & Co\\",\\"Name\\":\\"Genomics cpu\\",\\"planapply:cluster\\":\\"Genomics\\",\\"planapply:lineage\\":\\"0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42\\",\\"planapply:group\\":\\"cpu\\",\\"planapply:batch\\":\\"0123456789abcdef0123\\",\\"planapply:names\\":\\"cpu-7\\",\\"planapply:config\\":\\"CONFIG\\"}"
   }
  ]
 },
 "labels": {
  "team": "bio_co",
  "name": "genomics_cpu",
  "planapply_cluster": "genomics",
  "planapply_lineage": "0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
  "planapply_group": "cpu",
  "planapply_batch": "0123456789abcdef0123",
  "planapply_names": "cpu-7",
  "planapply_config": "CONFIG"
 },
 "machineType": "https://www.googleapis.com/compute/v1/projects/project_name/zones/us-central1-a/machineTypes/n1-standard-1",
 "name": "genomics-cpu-7-0123456789abcdef0123"
}\
""")
    assert find_tags(account) == vm.tags
    assert provider.identity() == snapshot({"driver": "gce", "project": "project_name"})
    assert provider.price("n1-standard-1", "us-central1-a", False) == snapshot(
        Price(usd_per_hour=0.04749975, source="on demand, libcloud prices of 2025-03-02")
    )
    before = len(google.stub.requests)
    account.find()
    assert [s.path for s in google.stub.requests[before:]] == snapshot(
        [
            "/compute/v1/projects/project_name/aggregated/instances",
            "/compute/v1/projects/project_name/aggregated/disks",
        ]
    )
    assert list(provider.terminate([vm.id, "vm-of-nobody"])) == ["vm-of-nobody"]
    assert format_request(google.stub.write_requests()[-1]) == snapshot("""\
DELETE https://www.googleapis.com/compute/v1/projects/project_name/zones/us-central1-a/instances/genomics-cpu-7-0123456789abcdef0123
null\
""")


def test_tags_change_in_labels_and_metadata(google: Google) -> None:
    account, provider, vm = launch_vm("gce", WORKER, **SETTINGS)
    provider.retag([vm.id], {"team": "Geo"}, [])
    assert find_tags(account) == {**vm.tags, "team": "Geo"}
    assert google.instances[0]["labels"]["team"] == "geo"
    keys = [item["key"] for item in google.instances[0]["metadata"]["items"]]
    assert keys == ["startup-script", "planapply"]


def test_firewall_rules(google: Google) -> None:
    """https://cloud.google.com/compute/docs/reference/rest/v1/firewalls/insert"""
    account, provider, _ = launch_vm("gce", WORKER, **SETTINGS)
    tags = {"planapply:cluster": "Genomics", **account.tags}
    [(name, wanted)] = provider.required_resources("Genomics", WORKER).items()
    made = provider.prepare(name, wanted, tags)
    assert google.instances[0]["tags"]["items"] == ["planapply-genomics-d9ac3711"]
    assert "\n".join(map(format_request, google.stub.write_requests()[1:-1])) == snapshot("""\
POST https://www.googleapis.com/compute/v1/projects/project_name/global/firewalls
{
 "name": "planapply-genomics-d9ac3711-nodes",
 "direction": "INGRESS",
 "priority": 1000,
 "description": "planapply Genomics 0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
 "allowed": [
  {
   "IPProtocol": "all"
  }
 ],
 "network": "https://www.googleapis.com/compute/v1/projects/project_name/global/networks/default",
 "sourceTags": [
  "planapply-genomics-d9ac3711"
 ],
 "targetTags": [
  "planapply-genomics-d9ac3711"
 ]
}
POST https://www.googleapis.com/compute/v1/projects/project_name/global/firewalls
{
 "name": "planapply-genomics-d9ac3711-clients",
 "direction": "INGRESS",
 "priority": 1000,
 "description": "planapply Genomics 0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42",
 "allowed": [
  {
   "IPProtocol": "tcp",
   "ports": [
    "8786",
    "8787"
   ]
  }
 ],
 "network": "https://www.googleapis.com/compute/v1/projects/project_name/global/networks/default",
 "sourceRanges": [
  "203.0.113.0/24"
 ],
 "targetTags": [
  "planapply-genomics-d9ac3711"
 ]
}\
""")
    assert provider.prepare(name, wanted, tags) == made
    assert provider.find_resources(tags) == {name: made}
    assert provider.client.driver.group_arguments(made.id, {}) == snapshot(
        {"ex_tags": ["planapply-genomics-d9ac3711"]}
    )
    allowed = provider.allow(made, "198.51.100.7")
    assert google.firewalls[f"{made.id}-clients"]["sourceRanges"] == snapshot(
        ["198.51.100.7/32", "203.0.113.0/24"]
    )
    assert provider.disallow(allowed, "198.51.100.7").detail["allowed"] == []
    assert google.firewalls[f"{made.id}-clients"]["sourceRanges"] == ["203.0.113.0/24"]
    for network in (None, "198.51.100.7", "203.0.113.0/24"):
        with pytest.raises(ProviderError):
            provider.disallow(made, network)
    provider.cleanup(made)
    provider.cleanup(made)
    assert google.firewalls == {}


def test_zone_without_capacity(google: Google) -> None:
    """The operation failed: the request was accepted, but had no effect."""
    google.operation = {
        "status": "DONE",
        "error": {
            "errors": [
                {
                    "code": "ZONE_RESOURCE_POOL_EXHAUSTED",
                    "message": "The zone 'projects/project_name/zones/us-central1-a' does not have "
                    "enough resources available to fulfill the request.",
                }
            ]
        },
    }
    with pytest.raises(ProviderError) as raised:
        launch_vm("gce", WORKER, **SETTINGS)
    assert raised.value.kind is ErrorKind.CAPACITY


def test_operation_with_unknown_outcome(google: Google) -> None:
    google.stub.on("GET", ".*/operations/.*", (503, {"error": {"message": "try later"}}))
    with pytest.raises(ProviderError) as raised:
        launch_vm("gce", WORKER, **SETTINGS)
    assert raised.value.kind is ErrorKind.UNKNOWN
