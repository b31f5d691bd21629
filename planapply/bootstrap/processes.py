"""The Dask processes of a node: command line, environment, and files."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from planapply.model.names import SCHEDULER, worker_names
from planapply.model.node import NodeConfig
from planapply.model.node_secrets import plain_variables
from planapply.model.state import TLS
from planapply.provider import Boot

DEATH_TIMEOUT = 600
"""Seconds after which a worker that has not joined, also after a crash, terminates its VM.

Otherwise a `Worker` would search for a scheduler that no longer exists for as long as its VM is paid
for. A worker that has joined stops when its scheduler does (distributed's workers do not reconnect).
"""
CERTIFICATE, KEY = "tls-certificate.pem", "tls-key.pem"
PLUGIN, LIFETIMES = "planapply_plugin.py", "planapply-lifetimes.json"
"""Files of a scheduler's node: the plugin, and its lifetimes, which the plugin writes when they change."""
PLUGIN_VARIABLE, LIFETIMES_VARIABLE = "PLANAPPLY_PLUGIN", "PLANAPPLY_LIFETIMES"
"""Variables with the paths of these files."""
WORKER_PROGRAM = ("-m", "distributed.cli.dask_spec")
SCHEDULER_PROGRAM = (
    "-c",
    f"import os, runpy; runpy.run_path(os.environ['{PLUGIN_VARIABLE}'], run_name='__main__')",
)
"""Arguments of Python; the plugin runs `dask spec`, too. With a path, `sys.path` would be another."""


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
    secrets: Mapping[str, str] = {},
) -> tuple[Boot, ...]:
    """Return the `dask spec` command of each of `names`, for a provider that starts processes.

    `scheduler` is the Dask address for workers; None for the scheduler itself. The key of `tls` is in
    `files`, since every user of the machine can read the arguments of a process. `secrets` are the values of
    the configuration's secret variables. The processes listen
    on the address of their VM only, unless the options say otherwise.
    """
    env = plain_variables(config.environment.env)
    files: dict[str, str] = {}
    file_env: dict[str, str] = {}
    if tls is not None:
        files = {CERTIFICATE: tls.certificate, KEY: tls.key.get_secret_value()}
        for key, value in tls_environment(CERTIFICATE, KEY).items():
            (file_env if value in files else env)[key] = value
    if scheduler is None:
        files |= {PLUGIN: plugin_source(), LIFETIMES: lifetimes_file(config)}
        file_env |= {PLUGIN_VARIABLE: PLUGIN, LIFETIMES_VARIABLE: LIFETIMES}
    env["PLANAPPLY_CLUSTER"] = cluster
    return tuple(
        Boot(
            argv=(
                *(SCHEDULER_PROGRAM if scheduler is None else WORKER_PROGRAM),
                *([] if scheduler is None else [scheduler]),
                "--spec",
                _dump_json(_bind_dashboards(dask_spec(config, name), config)),
            ),
            env=env | {"PLANAPPLY_NODE": name},
            files=files,
            file_env=file_env,
            secret_env=dict(secrets),
        )
        for name in names
    )


@cache
def plugin_source() -> str:
    """Return the source text of the scheduler's plugin."""
    return (package_files(__package__) / "scheduler_plugin.py").read_text(encoding="utf-8")


def lifetimes_file(config: NodeConfig) -> str:
    """Return the first content of the file with the scheduler's lifetimes.

    Without `idle_timeout`, that of Dask's own configuration holds.
    """
    return config.lifetimes.model_dump_json(exclude_none=True)


def dask_spec(config: NodeConfig, name: str) -> dict[str, Any]:
    """Return the document for `dask spec --spec`: one scheduler, or the node's workers by name."""
    if config.group == SCHEDULER:
        return {"cls": config.cls, "opts": _scheduler_options(config)}
    return {
        worker: {"cls": config.cls, "opts": {**_worker_options(config), "name": worker}}
        for worker in worker_names(name, config.processes)
    }


def _bind_dashboards(document: dict[str, Any], config: NodeConfig) -> dict[str, Any]:
    """Return the document with dashboards that have only a port on the address of the VM.

    Dask would serve them on every address of the machine, also if the process has a `host`.
    """
    if "dashboard_address" not in config.options or has_address(config):
        return document
    bound = _bind(config.options["dashboard_address"])
    processes = [document] if config.group == SCHEDULER else document.values()
    for process in processes:
        process["opts"]["dashboard_address"] = bound
    return document


def _bind(address: Any) -> Any:
    if isinstance(address, list):
        return [_bind(part) for part in address]
    port = re.fullmatch(":?([0-9]+)", str(address))
    return Placeholder(f"{HOST}:{port[1]}") if port else address


def has_address(config: NodeConfig) -> bool:
    """Return whether the options say on which addresses the node's processes listen."""
    return not config.options.keys().isdisjoint(("host", "interface"))


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
    if not has_address(config):
        # Otherwise a worker, but not its nanny, would listen on every address of the machine.
        options["host"] = HOST
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
