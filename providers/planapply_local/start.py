"""From a request to one running VM: where it answers, what it is told, its keeper started."""

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

from planapply.model.names import SCHEDULER
from planapply.model.node import VM
from planapply.provider import ErrorKind, LaunchRequest, ProviderError
from planapply_local import supervisor

LOOPBACK = "127.0.0.1"
PORTS = range(20000, 32000)  # below those that Linux and macOS give to outgoing connections
# Of another cluster's `planapply env`, or of the Dask worker that we may run in.
NOT_INHERITED = re.compile(
    r"DASK_SCHEDULER_ADDRESS|DASK_DISTRIBUTED__COMM__(TLS__.*|REQUIRE_ENCRYPTION)|PLANAPPLY_.*"
)


def start(
    request: LaunchRequest, index: int, id: str, folder: Path, existing_vms: Sequence[VM], lock: int
) -> VM:
    """Start the VM at `index` of the batch; `lock` is a descriptor that keeps others out.

    Raises ProviderError, and then there is no process and no folder of it.
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
        "{folder}": str(folder),
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
        "PYTHONUNBUFFERED": "1",  # what tasks print is in the log at once
        "SPT_NOENV": "1",  # else setproctitle, where Dask finds it, overwrites the environment
        **{key: _substitute(value, values) for key, value in boot.env.items()},
    }
    instructions = {
        "folder": str(folder),
        "files": dict(boot.files),
        "argv": [sys.executable, *(_substitute(text, values) for text in boot.argv)],
        "env": inherited_env | dask_env | vm_env,
        "seconds": config.ttl,
        "lock": lock,
    }
    _start_supervisor(
        instructions,
        inherited_env | vm_env | {supervisor.ENV_SUPERVISOR: "1"},
        request.names[index],
    )
    return vm


def _start_supervisor(instructions: dict[str, Any], env: dict[str, str], name: str) -> None:
    """Start a keeper; returns when it is in the background and can be found."""
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
            f"{name} can't be started: {error}",
            "You have as many processes as you may have; see `ulimit -u`.",
        ) from error
    except OSError as error:
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{name} can't be started: {error}",
            f"Nodes are started with the Python that runs planapply: {sys.executable}",
        ) from error
    if result.returncode:
        text = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ProviderError(
            ErrorKind.REJECTED,
            f"{name} can't be started: {text or f'its keeper ended with {result.returncode}'}",
            f"Its log and scratch files go to {instructions['folder']}; the setting `folder` of the "
            "provider chooses another place.",
        )


def _substitute(text: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _pick_address(options: Mapping[str, Any]) -> str:
    """Where a scheduler with these options answers: on this machine only, unless they say else."""
    if interface := options.get("interface"):
        import psutil

        interfaces = psutil.net_if_addrs()
        for address in interfaces.get(interface, []):
            if address.family == socket.AF_INET:
                return str(address.address)
        raise ProviderError(
            ErrorKind.REJECTED,
            f"this machine has no network interface {interface!r} with an IPv4 address",
            f"Its interfaces: {', '.join(interfaces)}.",
        )
    host = options.get("host")
    return str(host) if host and host not in ("0.0.0.0", "::") else LOOPBACK


def _pick_port(options: Mapping[str, Any], address: str, taken: set[int | None]) -> int:
    """The scheduler's port: the user's, or any that is free and not about to be `taken`."""
    port = options.get("port") or 0
    if not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise ProviderError(
            ErrorKind.REJECTED, f"not a port: {port!r}", "Give one number in `scheduler.options`."
        )
    if port:
        if error := _find_bind_error(address, port):
            raise ProviderError(
                ErrorKind.REJECTED,
                f"the scheduler can't listen on port {port} of {address}: {error}",
                "Choose another `port` in `scheduler.options`, or none: then a free one is found.",
            )
        return port
    for port in random.sample(PORTS, 100):
        if port not in taken and not _find_bind_error(address, port):
            return port
    raise ProviderError(ErrorKind.QUOTA, f"no port for a scheduler is free on {address}")


def _find_bind_error(address: str, port: int) -> str | None:
    """Why nobody can listen there; None if one can."""
    try:
        with socket.create_server((address, port)):
            return None
    except OSError as error:
        return error.strerror or str(error)
