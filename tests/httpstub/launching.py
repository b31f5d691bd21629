"""Launch of one VM through a real driver, with its requests as text."""

import base64
import copy
import gzip
import json
import re
from typing import Any

from conformance.subjects import Account, Subject, libcloud_provider
from planapply_libcloud.provider import Libcloud

from httpstub import Request
from planapply.model.node import VM, NodeConfig

LINEAGE = "0b5f2a1c-77de-4d07-9a6e-5d1f3c0e8a42"
TOKEN = "0123456789abcdef0123"


def worker_config(**changes: Any) -> NodeConfig:
    return NodeConfig(group="cpu", cls="distributed.Nanny", tags={"team": "Bio & Co"}, **changes)


def launch_vm(driver: str, worker: NodeConfig, **settings: Any) -> tuple[Account, Libcloud, VM]:
    """Launch one VM, after the checks of a plan."""
    given = {"driver": driver, "key": "env:CLOUD_KEY", **settings}
    create = given.get("create", {})
    worker = worker.model_copy(update={"provider": {"create": create}})
    account = Account(
        Subject(connect=lambda: libcloud_provider(given), worker=worker), lineage=LINEAGE
    )
    if account.provider.client.driver.has_tags:
        account.state.cluster = "Genomics"
    else:
        account.state.cluster, worker = "genomics", worker.model_copy(update={"tags": {}})
        account.subject.worker = worker
    assert account.provider.check([worker]) == []
    result = account.launch("cpu-7", token=TOKEN, security="tls", scheduler="tls://10.0.0.5:8786")
    return account, account.provider, result.vms[0]


def format_request(request: Request) -> str:
    """Return a request in the form of API references, with its script as one word."""
    body = copy.deepcopy(request.body)
    text = body if isinstance(body, str) else json.dumps(body, indent=1)
    text = re.sub(r'"#!/bin/bash\\nexec .*?END\\n\)\\n"', '"<the script, as text>"', text)
    for script in re.findall(r"[A-Za-z0-9+/=]{400,}", text):
        text = text.replace(script, describe_script(script))
    text = re.sub(r"(?<=config)(\W{1,9})[0-9a-f]{16}\b", r"\1CONFIG", text)
    return f"{request.method} https://{request.host}{request.path}\n{text}"


def describe_script(data: str) -> str:
    """Return a word that stands for user data."""
    raw = base64.b64decode(data)
    if raw.startswith(b"\x1f\x8b"):
        assert b"name=cpu-7" in gzip.decompress(raw)
        return "<the script, compressed, as base64>"
    assert raw.startswith(b"#!/bin/bash\nexec bash <(base64 -d")
    return "<the script, as text, as base64>"


def find_tags(account: Account) -> dict[str, str]:
    """Return the tags of the only VM that the cloud shows."""
    [vm] = account.find()
    return vm.tags


def tags_in_name(vm: VM) -> dict[str, str]:
    """Return the tags that can be in a VM's name."""
    return {key: value for key, value in vm.tags.items() if key not in ("team", "planapply:config")}


def rsa_key() -> str:
    """Return a private key, as in a service account's file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
