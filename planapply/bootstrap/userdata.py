"""The user data that turns a bare VM into a node: one readable shell script, compressed.

It needs cloud-init, systemd, bash, and python3, which every common Linux image has. All VMs of a
batch get the same script; each finds its name by its index in the batch (EC2's `ami-launch-index`).

Nodes that are already running keep the script that they were launched with: it is not part of a
node's configuration digest, so a change of the script replaces nothing.
"""

import gzip
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from planapply.bootstrap.processes import (
    CERTIFICATE,
    KEY,
    LIFETIMES,
    LIFETIMES_VARIABLE,
    PLUGIN,
    PLUGIN_VARIABLE,
    SCHEDULER_PROGRAM,
    WORKER_PROGRAM,
    dask_spec,
    has_address,
    lifetimes_file,
    plugin_source,
    tls_environment,
)
from planapply.bootstrap.steps import (
    ADDRESS_STEP,
    DASK_SERVICE,
    ENABLE_UNITS,
    METADATA_CLIENT,
    SCRIPT_HEADER,
    SPOT_SERVICE,
    TTL_TIMER,
    define_apt,
    find_image_python,
    install_docker,
    install_packages,
    pull_container,
    run_setup,
    write_file,
)
from planapply.model.names import SCHEDULER, to_ranges
from planapply.model.node import DEFAULT_PORT, Environment, NodeConfig
from planapply.model.node_secrets import plain_variables
from planapply.model.state import TLS
from planapply.model.variables import lowercase_proxies, split_self_references

FOLDER, SCRATCH_FOLDER = "/etc/planapply", "/var/lib/planapply"
_SECRETS = f"{FOLDER}/secrets"
_RANGE = re.compile(r"(?P<group>[A-Za-z0-9-]+-)\[(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)\]", re.ASCII)


def build_user_data(
    config: NodeConfig,
    names: Sequence[str],
    scheduler: str | None,
    tls: TLS | None,
    *,
    cluster: str,
    secrets: Mapping[str, str] = {},
) -> bytes:
    """Return the user data of these nodes, as gzip, which cloud-init unpacks.

    `scheduler` is the Dask address for workers; None for the scheduler itself. Equal arguments give
    equal bytes. `secrets` are the values of the configuration's secret variables. The result is a secret, since
    it contains them and the key of `tls`.
    """
    text = build_script(config, names, scheduler, tls, cluster=cluster, secrets=secrets)
    return gzip.compress(text.encode(), mtime=0)


def build_script(
    config: NodeConfig,
    names: Sequence[str],
    scheduler: str | None,
    tls: TLS | None,
    *,
    cluster: str,
    secrets: Mapping[str, str] = {},
) -> str:
    """Return the script of `build_user_data` in readable form."""
    environment = config.environment
    proxies = lowercase_proxies(plain_variables(environment.env))
    parts = [
        SCRIPT_HEADER.format(
            cluster=_sanitize_comment(cluster), group=_sanitize_comment(config.group)
        ),
        TTL_TIMER.format(seconds=round(config.ttl)) if config.ttl else "",
        METADATA_CLIENT if len(names) > 1 or _is_spot_worker(config, scheduler) else "",
        _name_step(names),
        _tls_step(tls),
        _plugin_step(config),
        _environment_step(config, tls, cluster, secrets),
        _spec_step(config, scheduler),
        "" if environment == Environment(env=environment.env) else define_apt(proxies),
        install_docker(proxies) if environment.docker else "",
        run_setup(environment.setup),
    ]
    if environment.docker:
        parts.append(pull_container(environment.docker, secrets))
    elif environment.packages or environment.requirements is not None:
        requirements = environment.requirements or "\n".join(environment.packages or ())
        parts.append(install_packages(requirements, environment.python))
    else:
        parts.append(find_image_python())
    address = shlex.quote(scheduler or "")
    program = SCHEDULER_PROGRAM if config.group == SCHEDULER else WORKER_PROGRAM
    service = DASK_SERVICE.replace("@PROGRAM@", shlex.join(program))
    service = service.replace("@SCHEDULER@", f"{address} " if scheduler else "")
    service = service.replace("@EXEC@", "set --" if secrets else "exec")
    service = service.replace("@SECRETS@", f'. {_SECRETS}\nexec "$@"\n' if secrets else "")
    parts.append(service.replace("@PEER@", shlex.quote(_bash_socket(scheduler))))
    units = "planapply.service"
    if _is_spot_worker(config, scheduler):
        parts.append(SPOT_SERVICE.replace("@SCHEDULER@", address))
        units += " planapply-spot.service"
    parts.append(ENABLE_UNITS.replace("@UNITS@", units))
    return "\n".join(part for part in parts if part)


def _bash_socket(scheduler: str | None) -> str:
    """Return the path at which bash connects to the scheduler; empty for the scheduler itself."""
    parts = urlsplit(scheduler or "")
    return f"/dev/tcp/{parts.hostname}/{parts.port or DEFAULT_PORT}" if parts.hostname else ""


def _is_spot_worker(config: NodeConfig, scheduler: str | None) -> bool:
    """Return whether EC2 may reclaim the VM, and it is a worker, whose results are worth moving."""
    return bool(config.spot) and scheduler is not None


def _sanitize_comment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "?", text)


def _name_step(names: Sequence[str]) -> str:
    """Return the step that finds the VM's own name, from bash's ranges."""
    if len(names) == 1:
        return f"name={shlex.quote(names[0])}\n"
    patterns = []
    for text in to_ranges(names):
        match = _RANGE.fullmatch(text)
        patterns.append(
            f"{match['group']}{{{match['first']}..{match['last']}}}" if match else shlex.quote(text)
        )
    return f"""\
# The name of this VM, by its index in the batch.
names=({" ".join(patterns)})
name=${{names[$(python3 /etc/planapply/metadata.py ami-launch-index 1)]}}
echo "planapply: this is $name"
"""


def _tls_step(tls: TLS | None) -> str:
    if tls is None:
        return ""
    pair = {CERTIFICATE: tls.certificate, KEY: tls.key.get_secret_value()}
    return "".join(write_file(f"{FOLDER}/{name}", text) for name, text in pair.items())


def _plugin_step(config: NodeConfig) -> str:
    """Return the step that writes the scheduler's plugin and its lifetimes."""
    if config.group != SCHEDULER:
        return ""
    return (
        "# planapply's plugin for the scheduler.\n"
        + write_file(f"{FOLDER}/{PLUGIN}", plugin_source())
        + write_file(f"{SCRATCH_FOLDER}/{LIFETIMES}", lifetimes_file(config))
    )


def _environment_step(
    config: NodeConfig, tls: TLS | None, cluster: str, secrets: Mapping[str, str]
) -> str:
    plain = plain_variables(config.environment.env)
    defaults = {"DASK_TEMPORARY_DIRECTORY": SCRATCH_FOLDER}  # /tmp may be memory
    variables = {k: v for k, v in defaults.items() if k not in secrets} | plain
    if tls is not None:
        variables |= tls_environment(f"{FOLDER}/{CERTIFICATE}", f"{FOLDER}/{KEY}")
    if config.group == SCHEDULER:
        variables[PLUGIN_VARIABLE] = f"{FOLDER}/{PLUGIN}"
        variables[LIFETIMES_VARIABLE] = f"{SCRATCH_FOLDER}/{LIFETIMES}"
    variables["PLANAPPLY_CLUSTER"] = cluster
    lines = "\n".join(f"  {_assignment(key, value)}" for key, value in variables.items())
    # apt-get and curl read only the lowercase names.
    proxies = "".join(
        f"{shlex.quote(f'{key}={value}')} "
        for key, value in lowercase_proxies(plain).items()
        if key not in variables
    )
    call = f'env {proxies}"${{environment[@]}}" "$@"'
    secrets_file = ""
    if secrets:
        # Not in `environment`: the arguments of `env` are visible to every user of the VM.
        text = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in secrets.items())
        # A secret may have the name of one of this script's arrays, which bash does not export.
        text = f"unset environment workers dask inside names\n{text}"
        secrets_file = "# The secrets.\n" + write_file(_SECRETS, text)
        call = f'(set -- {call}; . {_SECRETS}; exec "$@")'
    return f"""\
{secrets_file}\
# The environment variables of the Dask processes, and of the installation of their packages.
environment=(
{lines}
  "PLANAPPLY_NODE=$name"
)
as_node() {{ {call}; }}
"""


def _assignment(key: str, value: str) -> str:
    """Return `KEY=VALUE` as shell, where a reference of the variable to itself is expanded."""
    first, *others = split_self_references(key, value)
    return f'"${{{key}:-}}"'.join(
        [shlex.quote(f"{key}={first}"), *(shlex.quote(part) if part else "" for part in others)]
    )


def _spec_step(config: NodeConfig, scheduler: str | None) -> str:
    """Return the step that writes the document for `dask spec`.

    The VM inserts its name, its address, and the number of threads per worker.
    """
    options_json = json.dumps(config.options)
    node, threads, host = (_placeholder(word, options_json) for word in ("NODE", "THREADS", "HOST"))
    document = dask_spec(config, node)
    if config.group == SCHEDULER:
        options = document["opts"]
        if "host" not in config.options:
            options.pop("host", None)  # every address that the VM has
        if not config.options.get("port"):
            options["port"] = DEFAULT_PORT
        return f"""\
# The Dask process: a scheduler.
workers=()
printf '%s\\n' {shlex.quote(json.dumps(document))} >/etc/planapply/spec.json
"""
    for worker in document.values():
        if "nthreads" not in config.options and "nthreads" in worker["opts"]:
            worker["opts"]["nthreads"] = threads
        if not has_address(config):
            worker["opts"]["host"] = host
    text = json.dumps(document).replace(json.dumps(threads), threads)
    workers = '"$name"' if config.processes == 1 else f'"$name"-{{0..{config.processes - 1}}}'
    thread_share = f"""\
threads=$(($(nproc) / {config.processes}))
spec=${{spec//{threads}/$((threads > 0 ? threads : 1))}}
"""
    own_address = (
        ""
        if has_address(config)
        else ADDRESS_STEP.format(
            host=host, scheduler=shlex.quote(urlsplit(scheduler or "").hostname or "")
        )
    )
    return f"""\
# The Dask workers and their options.
workers=({workers})
spec={shlex.quote(text)}
spec=${{spec//{node}/$name}}
{thread_share if threads in text else ""}{own_address}\
printf '%s\\n' "$spec" >/etc/planapply/spec.json
"""


def _placeholder(word: str, text: str) -> str:
    """Return a placeholder, which `text` does not contain, for a value that only the VM knows."""
    while f"@{word}@" in text:
        word += "_"
    return f"@{word}@"
