"""EC2, SSM, STS and S3 on a loopback port: moto, made as strict, slow and unreliable as AWS.

In a test, use `with serve(Cloud()) as cloud:`; for other processes, run `python -m lab.honest`. The
cloud is controlled by its methods, or by their names over HTTP: `POST /_lab/fault {"action": …}` (`Remote`).
"""

import argparse
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

from moto import settings as moto_settings
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from lab import seed
from lab.calls import NAMESPACE, ApiError, Params
from lab.ec2 import EC2
from lab.faults import Clock, Fault, Faults
from lab.stock import ENDED, Settings

Environ = dict[str, Any]
Answer = tuple[int, list[tuple[str, str]], bytes]
_CONSTANT = {"DescribeInstanceTypes", "DescribeInstanceTypeOfferings"}
"""Calls with an answer that does not depend on the account; moto takes seconds for a long one."""
_SIGNATURE = ("AWSAccessKeyId", "Signature", "Timestamp", "X-Amz")
_constant_answers: dict[tuple[str, str], bytes] = {}
_READS = ("Describe", "Get", "List", "Head")
_ADDRESS = re.compile(rb"<(privateIpAddress|ipAddress|publicIp)>[0-9]+")


@dataclass
class Call:
    """Call that reached the cloud."""

    action: str
    """Name of the call, such as `RunInstances`, or `s3:PutObject` of another service."""
    params: Params
    outcome: str = "ok"
    """`ok`, AWS's error code, or `lost`."""


class Cloud:
    """AWS account, as a WSGI app.

    moto has one account per process, so a process has one live Cloud; a new one is empty.
    """

    methods: tuple[str, ...] = (
        "fault",
        "clear",
        "configure",
        "freeze",
        "advance",
        "counts",
        "log",
        "instances",
        "reclaim",
        "recommend_rebalance",
        "power_off",
    )
    """Methods that other processes may call."""

    def __init__(self, seed_: int = 0, **settings: Any) -> None:
        moto_settings.ENABLE_AMI_VALIDATION = True
        moto_settings.ENABLE_KEYPAIR_VALIDATION = True
        moto_settings.EC2_ENABLE_INSTANCE_TYPE_VALIDATION = True
        # moto has 1,000 images, and takes a second to create them; the lab has its own.
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        moto_api_backend.reset()
        self.settings, self.clock, self.faults = Settings(**settings), Clock(), Faults(seed_)
        seed.create_images(self.settings.region)
        self.ec2 = EC2(self.settings, self.clock, seed_)
        self.calls: list[Call] = []
        self.url = ""
        self.lock = threading.RLock()
        """Lock around every use of moto: its conditional writes are not thread-safe."""
        self._moto = DomainDispatcherApplication(create_backend_app)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of a process that uses only this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "lab",
            "AWS_SECRET_ACCESS_KEY": "lab",
            "AWS_DEFAULT_REGION": self.settings.region,
            "AWS_REGION": self.settings.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PLANAPPLY_CHECKIP_URL": f"{self.url}/_lab/checkip",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def fault(self, action: str, **fields: Any) -> None:
        """Set a `Fault`; `fields` are its fields."""
        self.faults.active.append(Fault(action, **fields))

    def clear(self) -> None:
        """Remove all faults, and clear the record of calls."""
        self.faults.active.clear()
        self.calls.clear()

    def configure(self, **settings: Any) -> None:
        """Change `Settings`."""
        for name, value in settings.items():
            if not hasattr(self.settings, name):
                raise TypeError(f"no setting {name!r}")
            setattr(self.settings, name, value)

    def freeze(self) -> None:
        """Stop the clock of limits and delays; only `advance` moves it."""
        self.clock.freeze()

    def advance(self, seconds: float) -> None:
        """Advance that clock."""
        self.clock.advance(seconds)

    def counts(self) -> dict[str, Any]:
        """Return the number of calls: `all`, `mutating`, and by `actions`."""
        actions = Counter(call.action for call in list(self.calls))
        mutating = sum(n for action, n in actions.items() if is_mutating(action))
        return {"all": sum(actions.values()), "mutating": mutating, "actions": dict(actions)}

    def log(self) -> list[dict[str, Any]]:
        """Return the calls in order, with their parameters and results."""
        return [asdict(call) for call in list(self.calls)]

    def instances(self, live: bool = True) -> list[dict[str, Any]]:
        """Return the VMs that really exist, whatever Describe shows; `live`: only those not being terminated."""
        with self.lock:
            return [
                {
                    "id": vm.id,
                    "size": vm.instance_type,
                    "zone": vm.placement.zone,
                    "market": vm.lifecycle or "on-demand",
                    "state": vm.state,
                    "reason": vm.state_reason.code,
                    "address": self._shown_address(vm.private_ip),
                    "public_address": self._shown_address(vm.public_ip),
                    "index": vm.ami_launch_index,
                    "token": vm.client_token,
                    "groups": [group.id for group in vm.security_groups],
                    "tags": {tag["key"]: tag["value"] for tag in vm.get_tags()},
                    "user_data": str(vm.user_data or ""),
                }
                for vm in self.ec2.instances()
                if not live or vm.state not in ENDED
            ]

    def reclaim(self, ids: list[str], notice: float = 120.0) -> None:
        """Reclaim spot VMs, so many seconds after the notice in their metadata."""
        with self.lock:
            self.ec2.reclaim_times |= dict.fromkeys(ids, self.clock() + notice)

    def recommend_rebalance(self, ids: list[str]) -> None:
        """Show in the metadata of spot VMs that they are at a higher risk of being reclaimed."""
        with self.lock:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.ec2.rebalanced |= dict.fromkeys(ids, now)

    def power_off(self, ids: list[str]) -> None:
        """Make VMs shut down by themselves, in a cloud without machines."""
        with self.lock:
            for vm in [vm for vm in self.ec2.instances() if vm.id in ids]:
                self.ec2.power_off(vm)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handle a WSGI request."""
        if environ["PATH_INFO"].startswith("/_lab/"):
            status, headers, body = self._control(environ)
        else:
            status, headers, body = self._serve(environ)
        start_response(f"{status} lab", headers)
        return [body]

    def _serve(self, environ: Environ) -> Answer:
        service, region, action, params = parse_call(environ, self.settings.region)
        call = Call(action if service == "ec2" else f"{service}:{action}", params)
        self.calls.append(call)
        fault = self.faults.match(call.action) or Fault("")
        time.sleep(fault.delay)
        if fault.held:
            fault.held.wait()
        try:
            if fault.lost == "before":
                call.outcome = "lost"
                drop_connection(environ)
            if fault.page and not fault.lost:
                raise ApiError("page", fault.page, fault.status)
            if fault.error:
                raise ApiError(fault.error, fault.message, fault.status)
            with self.lock:
                seed.create_images(region)
                if service == "ec2":
                    call_moto = lambda params: self._call_moto_ec2(environ, params)  # noqa: E731
                    body = self.ec2.handle_call(region, action, params, call_moto)
                    body = body.replace(NAMESPACE.encode() + b'"', NAMESPACE.encode() + b'/"')
                    if not self.settings.machines:
                        body = _ADDRESS.sub(rb"<\1>127", body)
                    answer: Answer = (200, [("Content-Type", "text/xml")], body)
                else:
                    answer = self._call_moto(environ)
        except ApiError as refused:
            call.outcome = refused.code
            answer = format_error(service, refused)
        if fault.page:
            call.outcome = "page"
            return fault.status, [("Content-Type", "text/html")], fault.page.encode()
        if fault.lost == "after":
            call.outcome = "lost"
            drop_connection(environ)
        return answer

    def _shown_address(self, address: str | None) -> str | None:
        """Return an address as responses show it: a loopback address if no machine has it."""
        if not address or self.settings.machines:
            return address
        return f"127.{address.partition('.')[2]}"

    def _call_moto(self, environ: Environ) -> Answer:
        response = Response.from_app(self._moto, environ)
        return response.status_code, list(response.headers.items()), response.get_data()

    def _call_moto_ec2(self, environ: Environ, params: Params) -> bytes:
        region = parse_call(environ, self.settings.region)[1]
        body = urlencode(params).encode()
        asked = {key: params[key] for key in sorted(params) if not key.startswith(_SIGNATURE)}
        key = region, urlencode(asked)
        if key in _constant_answers:
            return _constant_answers[key]
        scope = f"lab/20250101/{region}/ec2/aws4_request"
        form = {
            "REQUEST_METHOD": "POST",
            "QUERY_STRING": "",
            "RAW_URI": "/",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=none",
            "wsgi.input": BytesIO(body),
        }
        try:
            status, _, answer = self._call_moto({**environ, **form})
        except NotImplementedError as error:
            raise ApiError("InvalidParameterValue", str(error)) from error
        if status >= 400:
            code, message = (
                ElementTree.fromstring(answer).find(f".//{{*}}{tag}") for tag in ("Code", "Message")
            )
            assert code is not None, answer
            assert message is not None, answer
            raise ApiError(code.text or "", message.text or "", status)
        if params["Action"] in _CONSTANT:
            _constant_answers[key] = answer
        return answer

    def _control(self, environ: Environ) -> Answer:
        name = environ["PATH_INFO"].removeprefix("/_lab/")
        if name == "checkip":
            address = self.settings.address or environ["REMOTE_ADDR"]
            return 200, [("Content-Type", "text/plain")], f"{address}\n".encode()
        length = int(environ.get("CONTENT_LENGTH") or 0)
        try:
            if name not in self.methods:
                raise TypeError(f"no method {name!r}; there are {', '.join(self.methods)}")
            result = getattr(self, name)(**json.loads(environ["wsgi.input"].read(length) or b"{}"))
        except Exception as error:  # the test that sent the request must see any error
            return 400, [("Content-Type", "text/plain")], repr(error).encode()
        return 200, [("Content-Type", "application/json")], json.dumps(result).encode()


class Remote:
    """Proxy for the methods of a Cloud in another process: `Remote(url).fault("RunInstances", at=3)`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(action: str | None = None, **fields: Any) -> Any:
            body = json.dumps(fields | ({"action": action} if action else {})).encode()
            request = urllib.request.Request(f"{self.url}/_lab/{name}", body, method="POST")
            try:
                with urllib.request.urlopen(request) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                with error:
                    raise RuntimeError(f"{name}: {error.read().decode()}") from None

        return call


class _Handler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass  # the cloud has its own log


@contextmanager
def serve(cloud: Cloud, host: str = "127.0.0.1", port: int = 0) -> Iterator[Cloud]:
    """Serve on a port (0: any free port) from a thread of this process; `cloud.url` is the address."""
    with listen(cloud, host, port) as actual_port:
        cloud.url = f"http://{host}:{actual_port}"
        yield cloud


@contextmanager
def listen(app: Callable[..., Iterable[bytes]], host: str, port: int) -> Iterator[int]:
    """Serve a WSGI app from a thread; return its port."""
    server = make_server(host, port, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def is_mutating(action: str) -> bool:
    """Return whether the call changes something."""
    return not action.rpartition(":")[2].startswith(_READS)


def drop_connection(environ: Environ) -> None:
    """Drop the connection without a response."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("the lab lost this answer")


def parse_call(environ: Environ, region: str) -> tuple[str, str, str, Params]:
    """Return (service, region, action, parameters) of a call, from boto3's form or Libcloud's query."""
    scope = re.search(
        r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", "")
    )
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    service = scope[2] if scope else "ec2" if "Action" in query else "s3"
    region = scope[1] if scope else region
    if service == "s3":
        return service, region, s3_action(environ, query), {"path": environ["PATH_INFO"], **query}
    if not environ.get("lab.body"):
        environ["lab.body"] = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(environ["lab.body"])
    text = environ["lab.body"].decode()
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, region, target.rpartition(".")[2], {"body": text}
    params = query | dict(parse_qsl(text, keep_blank_values=True))
    return service, region, params.get("Action", ""), params


def s3_action(environ: Environ, query: Params) -> str:
    """Return the name of an S3 call that a state store makes; other calls have their method."""
    _, _, key = environ["PATH_INFO"].strip("/").partition("/")
    bucket_actions = {"GET": "ListObjects", "PUT": "CreateBucket", "HEAD": "HeadBucket"}
    object_actions = {
        "GET": "GetObject",
        "PUT": "PutObject",
        "HEAD": "HeadObject",
        "DELETE": "DeleteObject",
    }
    if query.keys() & {"uploads", "uploadId"}:
        return f"MultipartUpload{environ['REQUEST_METHOD'].title()}"
    method = str(environ["REQUEST_METHOD"])
    return (object_actions if key else bucket_actions).get(method, method)


def format_error(service: str, refused: ApiError) -> Answer:
    """Return an error in that service's protocol."""
    code, message = escape(refused.code), escape(refused.message)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if service == "ssm":
        body = json.dumps({"__type": refused.code, "message": refused.message})
        return refused.status, [("Content-Type", "application/x-amz-json-1.1")], body.encode()
    if service == "ec2":
        error = f"<Response><Errors>{error}</Errors><RequestID>lab</RequestID></Response>"
    elif service != "s3":
        error = f"<ErrorResponse>{error}<RequestId>lab</RequestId></ErrorResponse>"
    return refused.status, [("Content-Type", "text/xml")], f"<?xml version='1.0'?>{error}".encode()


def main() -> None:
    """Print the address, and serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with serve(Cloud(options.seed), port=options.port) as cloud:
        print(cloud.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
