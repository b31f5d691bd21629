"""Kinds of a cloud's errors, by the recorded exchanges: tested with DigitalOcean's driver, which raises
bare exceptions for most errors."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from conformance.subjects import Account, Subject, libcloud_provider
from httpstub import StartStub, StubServer
from httpstub.launching import worker_config
from inline_snapshot import snapshot

from planapply.provider import ErrorKind, ProviderError

WORKER = worker_config(size=("512mb",), image="ubuntu-14-04-x64", zones=("nyc1",))
HTML = "<html><head><title>502 Bad Gateway</title></head><body>secret: the-key</body></html>"


@pytest.fixture
def ocean(cloud: StartStub) -> StubServer:
    stub = cloud("digitalocean_v2")
    for path, name in (("sizes", "sizes"), ("images", "images"), ("regions", "locations")):
        stub.on("GET", f"/v2/{path}", f"list_{name}.json")
    stub.on("GET", "/v2/droplets", "list_nodes_empty.json")
    return stub


def told(status: int, message: str, **more: Any) -> Any:
    return status, {"id": "x", "message": message, **more}


CREATES = [
    (told(429, "API Rate limit exceeded."), ErrorKind.THROTTLED),
    (told(401, "Unable to authenticate you"), ErrorKind.UNAUTHORIZED),
    (told(403, "You are not authorized to perform this operation"), ErrorKind.UNAUTHORIZED),
    (told(422, "creating this/these droplet(s) will exceed your droplet limit"), ErrorKind.QUOTA),
    (told(422, "Size is not available in this region."), ErrorKind.CAPACITY),
    (told(422, "Name is invalid"), ErrorKind.REJECTED),
    (told(500, "Server Error"), ErrorKind.UNKNOWN),
    (told(503, "Service unavailable"), ErrorKind.UNKNOWN),
    ((502, HTML), ErrorKind.UNKNOWN),
    ((200, HTML), ErrorKind.UNKNOWN),
    ((202, {"surprise": 1}), ErrorKind.UNKNOWN),
    ((404, HTML), ErrorKind.REJECTED),
]


def test_create_errors_map_to_error_kinds(ocean: StubServer) -> None:
    output = []
    for reply, kind in CREATES:
        ocean.on("POST", "/v2/droplets", reply)
        with pytest.raises(ProviderError) as raised:
            account().launch("cpu-0")
        assert raised.value.kind is kind, reply
        assert "the-key" not in str(raised.value)
        output.append(f"{kind}: {raised.value.summary}")
        if kind is ErrorKind.CAPACITY:
            assert raised.value.detail == snapshot(
                "Try again later, or add sizes to `size` (nodes whose size stays in the list are kept), or add `zones`, which replaces the group's running nodes."
            )
    assert "\n".join(output) == snapshot("""\
throttled: DigitalOcean limits the request rate: 429 Rate limit exceeded
unauthorized: DigitalOcean: Unable to authenticate you
unauthorized: DigitalOcean: You are not authorized to perform this operation (code: 403)
quota: DigitalOcean: creating this/these droplet(s) will exceed your droplet limit (code: 422)
capacity: DigitalOcean: Size is not available in this region. (code: 422)
rejected: DigitalOcean: Name is invalid (code: 422)
unknown: DigitalOcean failed (500): Server Error (code: 500)
unknown: DigitalOcean failed (503): Service unavailable (code: 503)
unknown: DigitalOcean failed (502): 502 Bad Gateway
unknown: DigitalOcean accepted the request, but then failed: a web page
unknown: DigitalOcean accepted the request, but then failed: 'droplet'
rejected: DigitalOcean responded with a web page (404)\
""")


READS = [
    (told(429, "API Rate limit exceeded."), ErrorKind.THROTTLED),
    (told(500, "Server Error"), ErrorKind.UNAVAILABLE),
    ((502, HTML), ErrorKind.UNAVAILABLE),
    ((200, HTML), ErrorKind.REJECTED),
    (told(401, "Unable to authenticate you"), ErrorKind.UNAUTHORIZED),
]


def test_read_errors_map_to_error_kinds(ocean: StubServer) -> None:
    for reply, kind in READS:
        ocean.on("GET", "/v2/droplets", reply)
        with pytest.raises(ProviderError) as raised:
            account().find()
        assert raised.value.kind is kind, reply
        assert "the-key" not in str(raised.value)


def test_dropped_connection_is_reported(ocean: StubServer) -> None:
    ocean.on("POST", "/v2/droplets", ConnectionAbortedError())
    with pytest.raises(ProviderError) as raised:
        account().launch("cpu-0")
    assert raised.value.kind is ErrorKind.UNKNOWN
    ocean.on("GET", "/v2/droplets", ConnectionAbortedError())
    with pytest.raises(ProviderError) as raised:
        account().find()
    assert raised.value.kind is ErrorKind.UNAVAILABLE


def test_unreachable_cloud_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_KEY", "the-key")
    provider = libcloud_provider(
        {
            "driver": "ec2",
            "key": "env:CLOUD_KEY",
            "secret": "env:CLOUD_KEY",
            "options": {"host": "127.0.0.1", "port": 9, "secure": False},
        }
    )
    with pytest.raises(ProviderError) as raised:
        provider.find({})
    assert raised.value.kind is ErrorKind.REJECTED
    assert str(raised.value) == snapshot("""\
cannot reach Amazon EC2 at 127.0.0.1:9: Connection refused
Check that this machine is online, and the address (`options` under [provider]).\
""")


@pytest.mark.parametrize("driver", ["openstack", "cloudstack", "linode"])
def test_unreachable_cloud_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """The identity needs no request; once the cloud has responded to one, calls are retried."""
    monkeypatch.setenv("CLOUD_KEY", "the-key")
    here = {"host": "127.0.0.1", "port": 9, "secure": False}
    options = {
        "openstack": {"ex_force_auth_url": "http://127.0.0.1:9", "ex_tenant_name": "x"},
        "cloudstack": {**here, "path": "/client"},
        "linode": here,
    }
    settings = {"driver": driver, "key": "env:CLOUD_KEY", "options": options[driver]}
    if driver != "linode":
        settings["secret"] = "env:CLOUD_KEY"
    provider = libcloud_provider(settings)
    assert provider.identity()["driver"] == driver
    with pytest.raises(ProviderError) as raised:
        provider.find({})
    assert raised.value.kind is ErrorKind.REJECTED
    title = provider.client.cloud
    assert raised.value.summary == (f"cannot reach {title} at 127.0.0.1:9: Connection refused")


class Empty(BaseHTTPRequestHandler):
    """Cloud without VMs."""

    def do_GET(self) -> None:
        body = b'{"data": [], "page": 1, "pages": 1, "results": 0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_cloud_that_answered_before_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_KEY", "the-key")
    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        here = {"host": "127.0.0.1", "port": server.server_port, "secure": False}
        settings = {"driver": "linode", "key": "env:CLOUD_KEY", "options": here}
        provider = libcloud_provider(settings)
        once = threading.Thread(target=server.handle_request)
        once.start()
        assert provider.find({}) == []
        once.join()
    with pytest.raises(ProviderError, match=r"at 127\.0\.0\.1:\d+: Connection refused") as raised:
        provider.find({})
    assert raised.value.kind is ErrorKind.UNAVAILABLE


def test_unknown_zone_is_reported(ocean: StubServer) -> None:
    provider = account().provider
    wrong = [
        WORKER.model_copy(update={"zones": zones, "size": ("64gb", "512mb")})
        for zones in (("nyc9",), ("nyc9", "nyc1"))
    ]
    assert [error.summary for error in provider.check(wrong[:1])] == ["there is no zone 'nyc9'"]
    assert "\n".join(str(error) for error in provider.check(wrong)) == snapshot("""\
there is no zone 'nyc9'
Did you mean 'nyc1'?
there is no size '64gb'
Choose one of: 1gb, 512mb.\
""")
    assert provider.check([WORKER]) == []


def test_name_is_looked_up_before_the_create_is_retried(ocean: StubServer) -> None:
    """Throttled means that nothing was done, but a cloud that reports it may have created the VM."""
    ocean.on("POST", "/v2/droplets", told(429, "API Rate limit exceeded."))
    one = account()
    request = one.request("cpu-0")
    with pytest.raises(ProviderError):
        one.provider.launch(request)
    tags = one.provider.client.driver.tag_format.encode(request.tags)
    droplet = ocean.file("list_nodes.json")["droplets"][0] | {"tags": tags}
    ocean.on("GET", "/v2/droplets", {"droplets": [droplet], "links": {}, "meta": {"total": 1}})
    before = len(ocean.write_requests())
    assert [vm.id for vm in one.provider.launch(request).vms] == [str(droplet["id"])]
    assert len(ocean.write_requests()) == before


def account() -> Account:
    settings = {"driver": "digitalocean", "key": "env:CLOUD_KEY"}
    return Account(Subject(connect=lambda: libcloud_provider(settings), worker=WORKER))
