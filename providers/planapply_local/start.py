"""Start of one VM: its address, its instructions, and its supervisor."""

import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planapply.provider import ErrorKind, LaunchRequest, ProviderError
from planapply.providerkit import SCHEDULER, VM, expand_self_references, rejection
from planapply_local import supervisor

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 32000)  # below the ports that Linux and macOS use for outgoing connections
# Variables of another cluster's `planapply env`, or of a Dask worker in which planapply runs.
NOT_INHERITED = re.compile(
    r"DASK_SCHEDULER_ADDRESS|DASK_DISTRIBUTED__COMM__(TLS__.*|REQUIRE_ENCRYPTION)|PLANAPPLY_.*"
)


def start(
    request: LaunchRequest, index: int, id: str, folder: Path, existing_vms: Sequence[VM], lock: int
) -> VM:
    """Start the VM at `index` of the batch; `lock` is the descriptor of the lock that is held.

    Raise ProviderError if it fails; then no process and no folder remains.
    """
    config = request.config
    address, port = LOOPBACK, None
    if config.group == SCHEDULER:
        address = _pick_address(config.options)
        port = _pick_port(config.options, address, {existing.port for existing in existing_vms})
    vm = VM(
        id=id,
        tags=dict(request.tags),
        index=index,
        private_address=address,
        port=port,
        launched_at=time.time(),
    )
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    values = {
        "{host}": address,
        "{port}": str(port),
        "{nthreads}": str(max(1, cpus // config.processes)),
    }
    boot = request.boots[index]
    vm_env = {
        supervisor.ENV_VM_ID: id,
        supervisor.ENV_VM_FACTS: vm.model_dump_json(exclude_defaults=True),
    }
    inherited_env = {
        key: value for key, value in os.environ.items() if not NOT_INHERITED.fullmatch(key)
    }
    dask_env = {
        "DASK_TEMPORARY_DIRECTORY": str(folder),
        "PYTHONUNBUFFERED": "1",  # so that what tasks print is in the log immediately
        "SPT_NOENV": "1",  # otherwise setproctitle, if it is installed, overwrites the environment
        **boot.secret_env,
        **expand_self_references(boot.env, inherited_env),
        **{key: str(folder / name) for key, name in boot.file_env.items()},
    }
    instructions = {
        "folder": str(folder),
        "files": dict(boot.files),
        "argv": [sys.executable, *(_substitute(text, values) for text in boot.argv)],
        "env": inherited_env | dask_env | vm_env,
        "seconds": config.ttl,
        "is_scheduler": config.group == SCHEDULER,
        "lock": lock,
    }
    _start_supervisor(
        instructions,
        inherited_env | vm_env | {supervisor.ENV_SUPERVISOR: "1"},
        request.names[index],
    )
    return vm


def _start_supervisor(instructions: dict[str, Any], env: dict[str, str], name: str) -> None:
    """Start a supervisor; return when it is in the background and can be found."""
    import psutil

    instructions["psutil"] = str(Path(psutil.__file__).parent.parent)
    try:
        result = subprocess.run(
            [sys.executable, "-I", "-S", supervisor.__file__],
            input=json.dumps(instructions).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=env,
            pass_fds=(instructions["lock"],),
            start_new_session=True,
        )
    except BlockingIOError as error:
        raise ProviderError(
            ErrorKind.QUOTA,
            f"cannot start {name}: {error}",
            "You have reached the limit of processes per user; see `ulimit -u`.",
        ) from error
    except OSError as error:
        raise rejection(
            f"cannot start {name}: {error}",
            f"Check the Python that runs planapply, which also runs the nodes: {sys.executable}",
        ) from error
    if result.returncode:
        text = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise rejection(
            f"cannot start {name}: "
            f"{text or f'its supervisor exited with code {result.returncode}'}",
            f"Its log and scratch files are in {instructions['folder']}. Set `folder` under "
            "[provider] to use another folder.",
        )


def _substitute(text: str, values: Mapping[str, str]) -> str:
    """Replace placeholders in one pass, so that no value is searched for placeholders."""
    pattern = "|".join(map(re.escape, values))
    return re.sub(pattern, lambda match: values[match[0]], text)


def _pick_address(options: Mapping[str, Any]) -> str:
    """Return the address of a scheduler with these options; by default, of this machine only."""
    if interface := options.get("interface"):
        import psutil

        interfaces = psutil.net_if_addrs()
        for address in interfaces.get(interface, []):
            if address.family == socket.AF_INET:
                return str(address.address)
        raise rejection(
            f"this machine has no network interface {interface!r} with an IPv4 address",
            f"Choose one of its interfaces: {', '.join(interfaces)}.",
        )
    host = options.get("host")
    return str(host) if host and host not in ("0.0.0.0", "::") else LOOPBACK


def _pick_port(options: Mapping[str, Any], address: str, taken: set[int | None]) -> int:
    """Return the scheduler's port: the user's, or one that is free and not in `taken`."""
    port = options.get("port") or 0
    if not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise rejection(
            f"{port!r} is not a port", "Set `port` in `scheduler.options` to one number."
        )
    if port:
        if error := _find_bind_error(address, port):
            raise rejection(
                f"the scheduler cannot listen on {address}:{port}: {error}",
                "Choose another `port` in `scheduler.options`, or remove it to use any free port.",
            )
        return port
    for port in random.sample(PORTS, 100):
        if port not in taken and not _find_bind_error(address, port):
            return port
    raise ProviderError(ErrorKind.QUOTA, f"{address} has no free port for a scheduler")


def _find_bind_error(address: str, port: int) -> str | None:
    """Return why a server cannot listen there; None if it can."""
    try:
        with socket.create_server((address, port)):
            return None
    except OSError as error:
        return error.strerror or str(error)
