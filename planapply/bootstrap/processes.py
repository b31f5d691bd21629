"""The Dask processes of a node: command line, environment, and files."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from planapply.model.names import SCHEDULER, worker_names
from planapply.model.node import NodeConfig
from planapply.model.state import TLS
from planapply.provider import Boot

DEATH_TIMEOUT = 600
"""Seconds after which a worker that has not joined, also after a crash, terminates its VM.

Otherwise a `Worker` would search for a scheduler that no longer exists for as long as its VM is paid
for. A worker that has joined stops when its scheduler does (distributed's workers do not reconnect).
"""
CERTIFICATE, KEY = "tls-certificate.pem", "tls-key.pem"


class Placeholder(str):
    """A value that the provider inserts; braces in the user's own text are not placeholders."""


HOST, PORT, THREADS = Placeholder("{host}"), Placeholder("{port}"), Placeholder("{nthreads}")
_NUMBERS = (PORT, THREADS)


def build_processes(
    config: NodeConfig,
    names: Sequence[str],
    scheduler: str | None,
    tls: TLS | None,
    *,
    cluster: str,
) -> tuple[Boot, ...]:
    """Return the `dask spec` command of each of `names`, for a provider that starts processes.

    `scheduler` is the Dask address for workers; None for the scheduler itself. The key of `tls` is in
    `files`, since every user of the machine can read the arguments of a process.
    """
    env = dict(config.environment.env)
    files: dict[str, str] = {}
    file_env: dict[str, str] = {}
    if tls is not None:
        files = {CERTIFICATE: tls.certificate, KEY: tls.key.get_secret_value()}
        for key, value in tls_environment(CERTIFICATE, KEY).items():
            (file_env if value in files else env)[key] = value
    env["PLANAPPLY_CLUSTER"] = cluster
    return tuple(
        Boot(
            argv=(
                "-m",
                "distributed.cli.dask_spec",
                *([] if scheduler is None else [scheduler]),
                "--spec",
                _dump_json(dask_spec(config, name)),
            ),
            env=env | {"PLANAPPLY_NODE": name},
            files=files,
            file_env=file_env,
        )
        for name in names
    )


def dask_spec(config: NodeConfig, name: str) -> dict[str, Any]:
    """Return the document for `dask spec --spec`: one scheduler, or the node's workers by name."""
    if config.group == SCHEDULER:
        return {"cls": config.cls, "opts": _scheduler_options(config)}
    return {
        worker: {"cls": config.cls, "opts": {**_worker_options(config), "name": worker}}
        for worker in worker_names(name, config.processes)
    }


def _scheduler_options(config: NodeConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"protocol": "tls" if config.security == "tls" else "tcp"}
    if config.options.keys().isdisjoint(("dashboard", "dashboard_address")):
        options["dashboard"] = True  # the default of `dask scheduler`, but not of `Scheduler`
    if "interface" not in config.options:
        options["host"] = HOST
    if config.idle_timeout is not None:
        options["idle_timeout"] = config.idle_timeout
    port = config.options.get("port") or PORT
    return {**options, **config.options, "port": port}


def _worker_options(config: NodeConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"death_timeout": DEATH_TIMEOUT}
    if config.processes > 1:
        # Otherwise each worker would use the whole machine. distributed reads a memory limit of at
        # most 1 as a fraction of the memory; there is nothing similar for threads.
        options["memory_limit"] = 1 / config.processes
        options["nthreads"] = THREADS
    return {**options, **config.options}


def _dump_json(value: Any) -> str:
    """Return JSON in which only placeholders have braces in their text."""
    if isinstance(value, Placeholder):
        return str(value) if value in _NUMBERS else json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value).replace("{", "\\u007b")
    if isinstance(value, Mapping):
        pairs = (f"{_dump_json(str(key))}:{_dump_json(item)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_dump_json, value))}]"
    return json.dumps(value)


def tls_environment(certificate: str, key: str) -> dict[str, str]:
    """Return Dask's settings for a self-signed key pair that serves every role."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    env = {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": certificate,
    }
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        env[f"{prefix}TLS__{role}__CERT"] = certificate
        env[f"{prefix}TLS__{role}__KEY"] = key
    return env
