"""The spec that `planapply init` writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import tomli

from planapply.model.diagnostics import PlanapplyError
from planapply.model.toml import KeyPath
from planapply.provider import Plugin
from planapply.specfile.override import apply_overrides

_COMMENT_COLUMN = 38
_CLUSTER = """\
# A Dask cluster: `planapply plan` shows what would change, `planapply apply` does it.
# A line that begins with # is a proposal or a remark. All keys: docs/spec.md, `planapply schema`.

[cluster]
name = "example"
provider = "{provider}"
# state = "s3://bucket/example.json"  # or gs://, az://, a path; else beside this file
{security}# "tls" or "none"; else "{default}"
# idle_timeout = "30 min"             # an idle scheduler ends, and its VM with it
# ttl = "12 h"                        # VMs of this age end, whatever happens
# max_cost = 40.0                     # USD an hour; a plan above it is an error
# join_timeout = "10 min"             # how long apply waits for a launched node to join
# tags = {{ team = "bio" }}             # on every VM and supporting resource
# protect = true                      # a plan that destroys or replaces anything is refused
"""

_ENVIRONMENT = """\
[environment]                         # what Python runs on the nodes; a change replaces them
# packages = "client"                 # as here; or a list: ["dask[distributed]", "pandas"]
# requirements = "requirements.txt"   # in place of packages
# python = "3.12"                     # in which packages or requirements are installed
# docker = "daskdev/dask:latest"      # in place of packages, requirements and python
# env = { OMP_NUM_THREADS = "1" }
# setup = ["apt-get install -y graphviz"]
"""

_SCHEDULER = """\
[scheduler]
# class = "distributed.Scheduler"
# options = { dashboard = false }     # arguments of its class
"""

_WORKERS = """\
[workers.cpu]                         # its nodes are cpu-0, cpu-1, …
count = 2                             # or min = 0 and max = 10: as `scale` and `adapt` will have it
# class = "distributed.Nanny"
# processes = 4                       # several Dask workers a node
options = { nthreads = 1 }            # arguments of its class
"""

_NODE = """\
# size = ["m7i.large", "m6i.large"]   # one, or a list to try in this order; or what it must have:
# cpus = 8                            # the cheapest sizes that fit are chosen, and kept
# memory = "32 GiB"
# gpus = 1
# arch = "arm64"
# image = "ami-0123456789abcdef0"     # else the provider's
# zones = ["eu-west-1a", "eu-west-1b"]
# spot = "prefer"                     # true: spot only; "prefer": on demand where there is no spot
# disk = "100 GiB"
# create = { ex_keyname = "me" }      # more arguments for Libcloud's create_node
# tags = { stage = "test" }
"""


def render_starter(plugin: Plugin, overrides: Sequence[str] = ()) -> str:
    """A spec with all common keys; those of no use to this provider are left out.

    `overrides` (--set) choose among the provider's starters; raises PlanapplyError for one that
    would not stand in the spec then.
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
        provider=plugin.name, default=plugin.security, security=security.ljust(_COMMENT_COLUMN)
    )
    text = plugin.starter if isinstance(plugin.starter, str) else plugin.starter(settings)
    tables = tomli.loads(text)
    for option, path in applied:
        if _get_value(tables, path) != _get_value(overridden, path):
            raise PlanapplyError(
                f"--set {option}: a starter for this provider can't have that",
                "Leave it out, and write it into the file.",
            )
    provider = text.strip("\n") or "[provider]"
    node = _drop_ignored_keys(_NODE, plugin, "")
    defaults = "[defaults]                            # for the scheduler and every group\n"
    parts = [
        cluster,
        f"{provider}\n",
        "" if "defaults" in tables or not node else defaults + node,
        "" if "environment" in tables else _drop_ignored_keys(_ENVIRONMENT, plugin, "environment."),
        _SCHEDULER,
        _WORKERS + node,
    ]
    return "\n".join(part for part in parts if part)


def _get_value(table: Any, path: KeyPath) -> Any:
    for key in path:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


def _drop_ignored_keys(lines: str, plugin: Plugin, table: str) -> str:
    """Without the keys that the provider makes no use of."""
    return "".join(
        line
        for line in lines.splitlines(keepends=True)
        if f"{table}{line.removeprefix('# ').split(' ')[0]}" not in plugin.ignored_settings
    )
