"""Server that runs in Nova's venv: real Nova behind one loopback port, with simulated neighbors.

Keystone, Glance, and Neutron are Nova's own test fixtures, with the few HTTP calls that Libcloud
makes: see `_Identity`, `_images`, and `_network`. `cloud.py` controls it through `POST /_lab/…`.

It prints its address, and exits when its standard input is closed.
"""
# ruff: noqa: E402

import atexit
import contextlib
import copy
import datetime
import json
import logging
import os
import socket
import sys
import threading
import time
import unittest
import uuid
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import urlsplit

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

from oslo_utils import netutils

# Nova's own function finds this machine's address by a socket to the internet.
netutils.get_my_ipv4 = lambda: "127.0.0.1"

# Import it first, or Nova finds that eventlet is imported already.
from nova.tests.functional import integrated_helpers  # noqa: I001
from futurist import _thread
from neutronclient.common import exceptions as neutron_exceptions
from nova.compute import utils as compute_utils
from nova.conf import CONF
from nova.scheduler.client import report
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures.nova import PROJECT_ID

atexit.unregister(_thread._clean_up)

USER, PASSWORD, PROJECT, REGION = "dask", "correct horse", "research", "RegionOne"
TOKEN_LIFE = 3600.0
JSON = "application/json"
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>proxy</body></html>"


class Neutron(nova_fixtures.NeutronFixture):
    """Neutron with a loopback address for each port, and with security groups that can change."""

    subnet_1 = {
        **nova_fixtures.NeutronFixture.subnet_1,
        "cidr": "127.0.0.0/8",
        "gateway_ip": "127.0.0.1",
    }

    def __init__(self, test):
        super().__init__(test)
        self._count = 0
        self._lock = threading.Lock()
        default = copy.deepcopy(self.security_group)
        default["security_group_rules"] = []
        self._security_groups = {default["id"]: default}

    def create_port(self, body=None):
        with self._lock:
            made = super().create_port(body)
            self._count += 1
            address = f"127.{10 + self._count // 62500}.{self._count // 250 % 250}.{self._count % 250 + 1}"
            own = {
                "fixed_ips": [{"ip_address": address, "subnet_id": self.subnet_1["id"]}],
                "security_groups": (body or {}).get("port", {}).get("security_groups", []),
            }
            self._ports[made["port"]["id"]].update(copy.deepcopy(own))
            made["port"].update(own)
            return made

    def show_security_group(self, id, **_):
        if id not in self._security_groups:
            raise neutron_exceptions.NeutronClientException(status_code=404)
        return {"security_group": copy.deepcopy(self._security_groups[id])}

    def find_resource(self, resource, name_or_id, *_, **__):
        assert resource == "security_group", resource
        groups = self._security_groups.values()
        found = [group for group in groups if name_or_id in (group["id"], group["name"])]
        if not found:
            raise neutron_exceptions.NotFound()
        return {"id": found[0]["id"]}

    def groups(self):
        return self._security_groups

    def groups_in_use(self):
        """Return the IDs of the groups of these ports."""
        return {group for port in self._ports.values() for group in port.get("security_groups", ())}


class Cells(nova_fixtures.CellDatabases):
    """Cell context without a lock around the choice of a cell, on which many parallel requests would
    wait for each other; without a cell, the one with the computes is used."""

    @contextlib.contextmanager
    def _wrap_target_cell(self, context, cell_mapping):
        with self._real_target_cell(context, cell_mapping) as targeted:
            yield targeted

    def _wrap_get_context_manager(self, context):
        return getattr(context, "db_connection", None) or self._default_ctxt_mgr


def check_quota(context, flavor, min_count, max_count, **fields):
    """Check the quota as Nova does, but ignore requests whose servers are not built yet.

    Nova ignores them only if they come close together; here, also from a slow client. Servers that are
    built count as usual, in a request for none."""
    if max_count and not CONF.quota.count_usage_from_placement:
        return max_count
    return _real_check_quota(context, flavor, min_count, max_count, **fields)


_real_check_quota, compute_utils.check_num_instances_quota = (
    compute_utils.check_num_instances_quota,
    check_quota,
)


class ApiError(Exception):
    def __init__(self, status, message):
        self.status, self.message = status, message


class OpenStack:
    """Application behind the port."""

    def __init__(self, nova, flags, neutron, glance, log_text):
        self.nova, self.flags, self.neutron, self.glance = nova, flags, neutron, glance
        self.log_text = log_text
        self.url = ""
        self.tokens = {}
        self.faults, self.log, self.bodies = [], [], []
        self.active_calls = 0
        self.lock = threading.Lock()

    def answer(self, method, path, query, headers, body, connection):
        """Return (status, headers, body), or None to drop the connection."""
        if path.startswith("/_lab/"):
            value = self.control(path.removeprefix("/_lab/"), json.loads(body or b"{}"))
            return 200, {"Content-Type": JSON}, json.dumps(value).encode()
        with self.lock:
            self.active_calls += 1
        try:
            return self._answer(method, path, query, headers, body)
        finally:
            with self.lock:
                self.active_calls -= 1

    def _answer(self, method, path, query, headers, body):
        fault = self._match_fault(method, path)
        self.log.append([method, path])
        self.bodies.append((method, path, body.decode(errors="replace")))
        time.sleep(fault.get("delay", 0.0))
        if fault.get("lost") == "before":
            return None
        if fault.get("html"):
            return fault.get("status", 502), {"Content-Type": "text/html"}, HTML
        if "status" in fault:
            return self._error(fault["status"], fault.get("message", "set by the lab"))
        try:
            result = self._route(method, path, query, headers, body)
        except ApiError as error:
            result = self._error(error.status, error.message)
        return None if fault.get("lost") == "after" else result

    def control(self, name, fields):
        if name == "fault":
            self.faults.append({"at": 1, "times": 1, "seen": 0, "hits": 0, **fields})
        elif name == "clear":
            self.faults.clear()
            self.log.clear()
            self.bodies.clear()
        elif name == "expire":
            self.tokens.clear()
        elif name == "quota":
            # Servers count when requested, or only when built; then Nova accepts too many first.
            early = fields["counts"] == "at once"
            limits = {"instances": fields["instances"], "cores": -1, "ram": -1}
            self.flags(count_usage_from_placement=early, **limits, group="quota")
        elif name == "remove_all":
            for server in self.control("servers", {}):
                self._nova("DELETE", f"/v2.1/servers/{server['id']}", "", {}, b"")
        elif name == "active_calls":
            return self.active_calls
        elif name == "log_text":
            return self.log_text()[-20_000:]
        elif name == "groups":
            return list(self.neutron.groups().values())
        elif name == "bodies":
            wanted = (fields["method"], fields["path"])
            return [
                body
                for method, path, body in self.bodies
                if (method, path[-len(wanted[1]) :]) == wanted
            ]
        elif name == "log":
            return list(self.log)
        elif name == "servers":
            status, _, body = self._nova("GET", "/v2.1/servers/detail", "", {}, b"")
            assert status == 200, body
            return json.loads(body)["servers"]
        else:
            raise AssertionError(name)
        return None

    def _match_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                prefix, suffix = fault.get("prefix", ""), fault.get("path", "")
                if fault["method"] != method:
                    continue
                if not (path.startswith(prefix) and path.endswith(suffix)):
                    continue
                if prefix and path.endswith("/detail"):
                    continue
                fault["seen"] += 1
                if fault["seen"] >= fault["at"] and fault["hits"] < fault["times"]:
                    fault["hits"] += 1
                    return fault
        return {}

    def _route(self, method, path, query, headers, body):
        if path == "/identity/v3/auth/tokens":
            return self._log_in(json.loads(body))
        expires = self.tokens.get(headers.get("X-Auth-Token"))
        if expires is None or expires < time.time():
            raise ApiError(401, "The request you have made requires authentication.")
        service, _, rest = path.lstrip("/").partition("/")
        if service == "compute":
            return self._nova(method, f"/{rest}", query, headers, body)
        if service == "image":
            return self._json(200, self._images(rest))
        return self._network(method, rest, json.loads(body or b"{}"))

    def _log_in(self, body):
        user = body["auth"]["identity"]["password"]["user"]
        if (user["name"], user["password"]) != (USER, PASSWORD):
            raise ApiError(401, "The request you have made requires authentication.")
        token = uuid.uuid4().hex
        expires_at = time.time() + TOKEN_LIFE
        self.tokens[token] = expires_at
        when = datetime.datetime.fromtimestamp(expires_at, datetime.UTC)
        catalog = [
            {
                "type": kind,
                "name": name,
                "endpoints": [
                    {
                        "interface": "public",
                        "region": REGION,
                        "url": f"{self.url}/{path}",
                        "id": kind,
                    }
                ],
            }
            for kind, name, path in (
                ("compute", "nova", "compute/v2.1"),
                ("image", "glance", "image"),
                ("network", "neutron", "network"),
            )
        ]
        answer = {
            "token": {
                "expires_at": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "issued_at": "2025-01-01T00:00:00.000000Z",
                "catalog": catalog,
                "user": {"id": USER, "name": USER, "domain": {"id": "default", "name": "Default"}},
                "project": {"id": PROJECT_ID, "name": PROJECT},
                "roles": [{"id": "member", "name": "member"}],
            }
        }
        status, headers, body = self._json(201, answer)
        return status, {**headers, "X-Subject-Token": token}, body

    def _nova(self, method, path, query, headers, body):
        found = {}

        def start_response(status, response_headers, exc_info=None):
            found["status"], found["headers"] = int(status.split()[0]), dict(response_headers)

        url = urlsplit(self.url)
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": headers.get("Content-Type", JSON),
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": url.hostname,
            "SERVER_PORT": str(url.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": url.netloc,
            "HTTP_ACCEPT": JSON,
            "HTTP_X_AUTH_USER": USER,
            "HTTP_X_AUTH_PROJECT_ID": PROJECT_ID,
            "HTTP_X_ROLES": "reader,member",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        answer = b"".join(self.nova(environ, start_response))
        return found["status"], found["headers"], answer

    def _images(self, rest):
        images = [
            {
                "id": image["id"],
                "name": image["name"],
                "status": "active",
                "visibility": image["visibility"],
                "min_ram": 0,
                "min_disk": 0,
                "created_at": "2025-01-01T00:00:00Z",
                "updated_at": "2025-01-01T00:00:00Z",
            }
            for image in self.glance.detail(None)
        ]
        if rest == "v2/images":
            return {"images": images, "schema": "/v2/schemas/images", "first": "/v2/images"}
        found = [image for image in images if image["id"] == rest.rpartition("/")[2]]
        if not found:
            raise ApiError(404, "No image found")
        return found[0]

    def _network(self, method, rest, body):
        groups = self.neutron.groups()
        _, kind, *id = rest.split("/")
        with self.lock:
            if (method, kind) == ("GET", "networks"):
                network = {"subnets": [], "status": "ACTIVE", **self.neutron.network_1}
                return self._json(200, {"networks": [network]})
            if (method, kind) == ("GET", "security-groups"):
                return self._json(200, {"security_groups": list(groups.values())})
            if (method, kind) == ("POST", "security-groups"):
                made = {
                    "id": str(uuid.uuid4()),
                    "tenant_id": PROJECT_ID,
                    "project_id": PROJECT_ID,
                    "security_group_rules": [],
                    **body["security_group"],
                }
                made["security_group_rules"] = [
                    self._rule(made["id"], {"direction": "egress", "ethertype": version})
                    for version in ("IPv4", "IPv6")
                ]
                groups[made["id"]] = made
                return self._json(201, {"security_group": made})
            if (method, kind) == ("DELETE", "security-groups"):
                if id[0] not in groups:
                    raise ApiError(404, f"Security group {id[0]} does not exist")
                if id[0] in self.neutron.groups_in_use():
                    raise ApiError(409, f"Security Group {id[0]} in use.")
                del groups[id[0]]
                return 204, {}, b""
            if (method, kind) == ("POST", "security-group-rules"):
                rule = body["security_group_rule"]
                made = self._rule(rule["security_group_id"], rule)
                groups[rule["security_group_id"]]["security_group_rules"].append(made)
                return self._json(201, {"security_group_rule": made})
            if (method, kind) == ("DELETE", "security-group-rules"):
                for group in groups.values():
                    rules = group["security_group_rules"]
                    rules[:] = [rule for rule in rules if rule["id"] != id[0]]
                return 204, {}, b""
        raise ApiError(404, f"the lab has no {method} {rest}")

    def _rule(self, group, rule):
        empty = dict.fromkeys(
            ("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id")
        )
        return {**empty, **rule, "id": str(uuid.uuid4()), "security_group_id": group}

    def _json(self, status, value):
        return status, {"Content-Type": JSON}, json.dumps(value).encode()

    def _error(self, status, message):
        return self._json(status, {"error": {"code": status, "message": message}})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud = None
    # Otherwise the small writes of one response wait for each other.
    wbufsize = -1

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        result = self.cloud.answer(
            self.command, url.path, url.query, self.headers, body, self.connection
        )
        if result is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, answer = result
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *args):
        pass


class ServerRun(integrated_helpers._IntegratedTestBase):
    """Test case of Nova that runs as long as the server."""

    CAST_AS_CALL = False  # as in production: the API answers while the server is being built

    def setUp(self):
        self.flags(compute_driver="fake.FakeDriver")
        nova_fixtures.NeutronFixture = Neutron
        nova_fixtures.CellDatabases = Cells
        # Otherwise each build and deletion sends a request for each existing server, for what only an
        # upgrade of Nova needs: all servers of this cloud are on one compute.
        report.SchedulerReportClient.get_allocations_for_provider_tree = lambda *_: {}
        super().setUp()
        # Nova's default. Its tests use 0.01 s, for which a hundred threads need a quarter of a
        # core; at exit, each thread is waited for until it has polled.
        _thread.ThreadWorker.MAX_IDLE_FOR = 1

    def test_serve(self):
        warnings.simplefilter("ignore")  # which Nova's tests treat as errors
        logging.getLogger().setLevel(
            logging.INFO
        )  # otherwise each debug line is formatted, and dropped
        log_text = lambda: self.stdlog.logger.output  # noqa: E731
        cloud = OpenStack(self.api_fixture.app(), self.flags, self.neutron, self.glance, log_text)
        handler = type("Bound", (Handler,), {"cloud": cloud})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        cloud.url = f"http://127.0.0.1:{server.server_port}"
        print(cloud.url, file=sys.__stdout__, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    unittest.TextTestRunner(stream=sys.stderr).run(unittest.TestSuite([ServerRun("test_serve")]))
    os._exit(0)
