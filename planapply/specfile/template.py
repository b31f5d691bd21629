"""The starter spec that `planapply init` writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli

from planapply.model.diagnostics import PlanapplyError
from planapply.model.toml import KeyPath, format_value
from planapply.provider import Plugin
from planapply.providerkit import STARTER_ENVIRONMENT
from planapply.specfile.override import apply_overrides

_COMMENT_COLUMN = 38
_CLUSTER = """\
#:schema planapply.schema.json
# For editors: `planapply schema > planapply.schema.json` writes the file that the line above names.

# A Dask cluster: `planapply plan` shows what would change, `planapply apply` changes it.
# A commented key is optional; its value is an example. All keys: docs/spec.md, `planapply schema`.

[cluster]
name = "{name}"
provider = "{provider}"
# state = "s3://bucket/example.json"  # or gs://, az://, a path; default: a file next to this one
{security}# "tls" or "none"; default: "{default}"
# idle_timeout = "30 min"             # an idle cluster terminates itself
# no_client_timeout = "2 h"           # a cluster that has had no client for this long, too
# ttl = "12 h"                        # VMs of this age terminate themselves
# max_cost = 40.0                     # USD per hour; a plan that exceeds it is an error
# max_total_cost = 500.0              # USD over the cluster's life; refuses plans that would exceed it
# join_timeout = "10 min"             # how long apply waits for a launched node to join
# tags = {{ team = "bio" }}             # of every VM and supporting resource
# protect = true                      # refuse plans that destroy or replace a node
"""

_ENVIRONMENT = STARTER_ENVIRONMENT.replace('packages = "client"  ', '# packages = "client"')

_SCHEDULER = """\
[scheduler]
# class = "distributed.Scheduler"
# options = { dashboard = false }     # arguments of the class
"""

_WORKERS = """\
[workers.cpu]                         # a group with the nodes cpu-0, cpu-1, …
count = 2                             # or min = 0 and max = 10, for `scale`; with adapt = true also for `watch`
# class = "distributed.Nanny"
# processes = 4                       # several Dask workers per node
# max_unavailable = "25%"             # nodes that a replacement may take away at the same time
# environment = { env = { A = "1" } } # of this group; it inherits the rest of [environment]
options = { nthreads = 1 }            # arguments of the class
"""

_HOOKS = """\
[hooks]                               # programs to run at events; see docs/hooks.md
# on_node_lost = ["./notify.sh", "lost"]
# on_applied = ["./notify.sh", "applied"]
# on_failed = ["./notify.sh", "failed"]
# before_destroy = ["./save-results.sh"]
"""

_NODE = """\
# size = {size}# one, or a list to try in this order; or requirements:
# cpus = 8                            # the cheapest matching sizes are selected, and kept
# memory = "32 GiB"
# gpus = 1
# arch = "arm64"
# image = {image}# default: the provider's
# zones = {zones}
# spot = "prefer"                     # true: spot only; "prefer": else on demand
# disk = "100 GiB"
# create = {{ ex_keyname = "me" }}      # further arguments for Libcloud's create_node
# tags = {{ stage = "test" }}
"""
_EC2_EXAMPLES = {
    "size": ["m7i.large", "m6i.large"],
    "image": "ami-0123456789abcdef0",
    "zones": ["eu-west-1a", "eu-west-1b"],
}
_EXAMPLES = {"size": ["large", "medium"], "image": "debian-12", "zones": ["zone-a", "zone-b"]}


def render_starter(plugin: Plugin, overrides: Sequence[str] = (), name: str = "example") -> str:
    """Return a spec with all common keys that this provider supports.

    `overrides` (--set) select one of the provider's starters; `name` is the valid name of the cluster.
    Raises PlanapplyError for an override that the starter would not contain.
    """
    overridden: dict[str, Any] = {}
    applied, errors = apply_overrides(overridden, tuple(overrides))
    if errors:
        raise PlanapplyError(diagnostics=tuple(errors))
    given = overridden.get("provider")
    settings = given if isinstance(given, dict) else {}
    other = "none" if plugin.security == "tls" else "tls"
    security = f'# security = "{other}"'
    cluster = _CLUSTER.format(
        name=name,
        provider=plugin.name,
        default=plugin.security,
        security=security.ljust(_COMMENT_COLUMN),
    )
    text = plugin.starter if isinstance(plugin.starter, str) else plugin.starter(settings)
    tables = tomli.loads(text)
    for option, path in applied:
        if _get_value(tables, path) != _get_value(overridden, path):
            raise PlanapplyError(
                f"cannot apply `--set {option}` to a starter of provider {plugin.name}",
                "Remove the option, and edit the file instead.",
            )
    provider = text.strip("\n") or "[provider]"
    node = _drop_ignored_keys(_node_keys(plugin, tables.get("defaults", {})), plugin, "")
    defaults = "[defaults]                            # for the scheduler and every group\n"
    parts = [
        cluster,
        f"{provider}\n",
        "" if "defaults" in tables or not node else defaults + node,
        "" if "environment" in tables else _drop_ignored_keys(_ENVIRONMENT, plugin, "environment."),
        _SCHEDULER,
        _WORKERS + node,
        _HOOKS,
    ]
    return "\n".join(part for part in parts if part)


def _node_keys(plugin: Plugin, defaults: Mapping[str, Any]) -> str:
    """Return the keys of a node, with the values of the starter's `defaults` as examples."""
    examples = _EC2_EXAMPLES if plugin.name == "ec2" else {**_EXAMPLES, **defaults}
    size, image, zones = (format_value(examples[key]) for key in ("size", "image", "zones"))
    return _NODE.format(size=size.ljust(29), image=image.ljust(28), zones=zones)


def _get_value(table: Any, path: KeyPath) -> Any:
    for key in path:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def _drop_ignored_keys(lines: str, plugin: Plugin, table: str) -> str:
    """Return the lines without the keys that the provider ignores."""
    return "".join(
        line
        for line in lines.splitlines(keepends=True)
        if f"{table}{line.removeprefix('# ').split(' ')[0]}" not in plugin.ignored_settings
    )
