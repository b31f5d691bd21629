"""The user data that turns a bare VM into a node: one readable shell script, compressed.

It needs cloud-init, systemd, bash and python3, which every common Linux image has. All VMs of a
batch get the same; each finds its own name by its place in the batch (EC2's `ami-launch-index`).
"""

import gzip
import json
import re
import shlex
from collections.abc import Sequence

from planapply.bootstrap.processes import (
    CERTIFICATE,
    KEY,
    dask_spec,
    tls_environment,
)
from planapply.bootstrap.steps import (
    APT,
    ENABLE,
    END_OF_LIFE,
    HEAD,
    METADATA,
    RUN,
    SPOT,
    container,
    file,
    image_python,
    setup,
    virtual_environment,
)
from planapply.model.names import SCHEDULER, to_ranges
from planapply.model.node import DEFAULT_PORT, Environment, NodeConfig
from planapply.model.state import TLS

FOLDER, SCRATCH = "/etc/planapply", "/var/lib/planapply"
_RANGE = re.compile(r"(?P<group>[A-Za-z0-9-]+-)\[(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)\]", re.ASCII)


def user_data(
    config: NodeConfig,
    names: Sequence[str],
    scheduler: str | None,
    tls: TLS | None,
    *,
    cluster: str,
) -> bytes:
    """The script of these nodes, as gzip, which cloud-init unpacks; equal for equal arguments.

    `scheduler` is the Dask address that workers are told; None for the scheduler itself. It is a
    secret: the key of `tls` is in it.
    """
    text = script(config, names, scheduler, tls, cluster=cluster)
    return gzip.compress(text.encode(), mtime=0)


def script(
    config: NodeConfig,
    names: Sequence[str],
    scheduler: str | None,
    tls: TLS | None,
    *,
    cluster: str,
) -> str:
    """As `user_data`, for people."""
    environment = config.environment
    parts = [
        HEAD.format(cluster=_comment(cluster), group=_comment(config.group)),
        END_OF_LIFE.format(seconds=round(config.ttl)) if config.ttl else "",
        METADATA if len(names) > 1 or _watches(config, scheduler) else "",
        _name(names),
        _files(tls),
        _environment(config, tls, cluster),
        _spec(config),
        "" if environment == Environment(env=environment.env) else APT,
        setup(environment.setup),
    ]
    if environment.docker:
        parts.append(container(environment.docker))
    elif environment.packages or environment.requirements is not None:
        wanted = environment.requirements or "\n".join(environment.packages or ())
        parts.append(virtual_environment(wanted, environment.python))
    else:
        parts.append(image_python())
    address = shlex.quote(scheduler or "")
    parts.append(RUN.replace("@SCHEDULER@", f"{address} " if scheduler else ""))
    units = "planapply.service"
    if _watches(config, scheduler):
        parts.append(SPOT.replace("@SCHEDULER@", address))
        units += " planapply-spot.service"
    parts.append(ENABLE.replace("@UNITS@", units))
    return "\n".join(part for part in parts if part)


def _watches(config: NodeConfig, scheduler: str | None) -> bool:
    """Whether EC2 may take it back, and it is a worker, which has something to hand over."""
    return bool(config.spot) and scheduler is not None


def _comment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "?", text)


def _name(names: Sequence[str]) -> str:
    """Its own name, by bash's own ranges."""
    if len(names) == 1:
        return f"name={shlex.quote(names[0])}\n"
    words = []
    for text in to_ranges(names):
        match = _RANGE.fullmatch(text)
        words.append(
            f"{match['group']}{{{match['first']}..{match['last']}}}" if match else shlex.quote(text)
        )
    return f"""\
# Which of the batch it is.
names=({" ".join(words)})
name=${{names[$(python3 /etc/planapply/metadata.py ami-launch-index 1)]}}
echo "planapply: this is $name"
"""


def _files(tls: TLS | None) -> str:
    if tls is None:
        return ""
    pair = {CERTIFICATE: tls.certificate, KEY: tls.key.get_secret_value()}
    return "".join(file(f"{FOLDER}/{name}", text) for name, text in pair.items())


def _environment(config: NodeConfig, tls: TLS | None, cluster: str) -> str:
    own = {"DASK_TEMPORARY_DIRECTORY": SCRATCH}  # /tmp may be memory
    variables = own | config.environment.env
    if tls is not None:
        variables |= tls_environment(f"{FOLDER}/{CERTIFICATE}", f"{FOLDER}/{KEY}")
    variables["PLANAPPLY_CLUSTER"] = cluster
    lines = "\n".join(f"  {shlex.quote(f'{key}={value}')}" for key, value in variables.items())
    return f"""\
# The environment of its Dask processes, and of what is installed for them.
environment=(
{lines}
  "PLANAPPLY_NODE=$name"
)
as_node() {{ env "${{environment[@]}}" "$@"; }}
"""


def _spec(config: NodeConfig) -> str:
    """What `dask spec` runs; the VM puts its name, and its share of the threads, into it."""
    own = json.dumps(config.options)
    node, threads = _marker("NODE", own), _marker("THREADS", own)
    document = dask_spec(config, node)
    if config.group == SCHEDULER:
        options = document["opts"]
        if "host" not in config.options:
            options.pop("host", None)  # every address that the VM has
        if not config.options.get("port"):
            options["port"] = DEFAULT_PORT
        return f"""\
# What it runs: a scheduler.
workers=()
printf '%s\\n' {shlex.quote(json.dumps(document))} >/etc/planapply/spec.json
"""
    for worker in document.values():
        if "nthreads" not in config.options and "nthreads" in worker["opts"]:
            worker["opts"]["nthreads"] = threads
    text = json.dumps(document).replace(json.dumps(threads), threads)
    workers = '"$name"' if config.processes == 1 else f'"$name"-{{0..{config.processes - 1}}}'
    share = f"""\
threads=$(($(nproc) / {config.processes}))
spec=${{spec//{threads}/$((threads > 0 ? threads : 1))}}
"""
    return f"""\
# What it runs: its Dask workers and their options.
workers=({workers})
spec={shlex.quote(text)}
spec=${{spec//{node}/$name}}
{share if threads in text else ""}\
printf '%s\\n' "$spec" >/etc/planapply/spec.json
"""


def _marker(word: str, text: str) -> str:
    """What stands for a value that only the VM knows, and nowhere in `text`."""
    while f"@{word}@" in text:
        word += "_"
    return f"@{word}@"
