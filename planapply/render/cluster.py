"""A running cluster as HTML, for notebooks: its nodes and Dask workers, its cost, and where its state is."""

from collections.abc import Sequence
from dataclasses import dataclass

from planapply.model.secrets import mask_urls
from planapply.render.html import lines_html, link_html, table_html, text_html

CLASSES = "jp-RenderedHTMLCommon jp-RenderedHTML jp-mod-trusted jp-OutputArea-output"
"""JupyterLab's classes for an output, so that a table looks the same in a widget."""


@dataclass(frozen=True)
class GroupSummary:
    """The nodes of one group, and their Dask workers."""

    name: str
    joined: int
    """The number of nodes all of whose Dask workers have joined."""
    nodes: int
    """The desired number of nodes."""
    joined_workers: int
    workers: int
    """The desired number of Dask workers."""
    size: str = ""
    limits: str = ""
    """The number of nodes that the spec sets, such as `count 3` or `min 0, max 8`."""


@dataclass(frozen=True)
class ClusterSummary:
    """The facts of a cluster for a notebook."""

    title: str
    """The name of the class."""
    name: str
    status: str
    location: str
    """The provider and the region."""
    groups: Sequence[GroupSummary]
    threads: int
    memory: str
    """The memory limits of the joined Dask workers, as a text."""
    cost: str
    scheduler: str
    """The address for clients."""
    dashboard: str
    """A URL; empty without a dashboard."""
    state: str
    """The path or URL of the state."""


def cluster_html(cluster: ClusterSummary, details: str) -> str:
    """Return the cluster; `details` is HTML already, and folded away."""
    threads = f"{cluster.threads} thread{'s' * (cluster.threads != 1)}"
    facts = [
        ("Capacity", text_html(f"{threads}, {cluster.memory}")),
        ("Cost", text_html(cluster.cost)),
        ("Dashboard", link_html(cluster.dashboard) if cluster.dashboard else "none"),
        ("Scheduler", text_html(cluster.scheduler)),
        ("State", text_html(mask_urls(cluster.state))),
    ]
    if cluster.status != "running":
        facts.insert(0, ("Status", text_html(cluster.status)))
    return (
        f'<div class="{CLASSES}">'
        f'<h3 style="margin: 0">{text_html(cluster.title)} {text_html(cluster.name)}</h3>'
        f'<p style="color: #757575; margin: 0">{text_html(cluster.location)}</p>'
        f"{groups_html(cluster.groups)}"
        f"{lines_html(facts)}"
        f'<details><summary>Scheduler info</summary><div style="margin: 8px 0">{details}</div></details>'
        "</div>"
    )


def groups_html(groups: Sequence[GroupSummary]) -> str:
    """Return a table of the groups, with the numbers of nodes and of Dask workers."""
    if not groups:
        return "<p>no groups of workers</p>"
    rows = [
        [
            text_html(group.name),
            f"{group.joined} of {group.nodes} joined",
            f"{group.joined_workers} of {group.workers} joined",
            text_html(group.size),
            text_html(group.limits),
        ]
        for group in groups
    ]
    return table_html(("Group", "Nodes", "Dask workers", "Size", "Nodes in the spec"), rows)
