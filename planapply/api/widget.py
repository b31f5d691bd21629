"""The notebook widget of a state-backed cluster: its status, and buttons that scale nodes and adapt workers."""

from collections.abc import Callable
from typing import Any, Protocol

import dask
from dask.utils import parse_timedelta
from tornado.ioloop import PeriodicCallback

from planapply.api.context import ClusterContext
from planapply.api.summary import ShownCluster, summarize_groups
from planapply.model.diagnostics import PlanapplyError
from planapply.render.cluster import CLASSES, groups_html
from planapply.render.html import text_html


class ScalableCluster(ShownCluster, Protocol):
    """The part of a state-backed cluster that the widget uses."""

    loop: Any
    periodic_callbacks: dict[str, Any]

    def _repr_html_(self) -> str: ...
    def nodes_of(self, group: str) -> set[str]: ...
    def scale(self, n: int, *, group: str) -> Any: ...
    def adapt(self, *, minimum: float, maximum: float, group: str) -> Any: ...
    def stop_adapting(self) -> None: ...
    def is_adapting(self) -> bool: ...


def make_widget(cluster: ScalableCluster, context: ClusterContext) -> Any:
    """Return tabs with the status and, if any group is elastic, scaling; None without ipywidgets."""
    try:
        import ipywidgets as widgets  # type: ignore[import-not-found]
    except ImportError:
        return None
    status, numbers, message = (widgets.HTML() for _ in range(3))
    children = [numbers]
    if context.has_elastic:
        children += [_controls(widgets, cluster, context, message), message]
    tabs = widgets.Tab([status, widgets.VBox(children)])
    tabs.set_title(0, "Status")
    tabs.set_title(1, "Scaling")

    def update() -> None:
        status.value = cluster._repr_html_()
        adapts = "adaptive" if cluster.is_adapting() else "manual"
        table = groups_html(summarize_groups(cluster, context))
        numbers.value = f'<div class="{CLASSES}"><p>Scaling: {adapts}</p>{table}</div>'

    def install() -> None:
        seconds = parse_timedelta(
            dask.config.get("distributed.deploy.cluster-repr-interval", default="ms")
        )
        callback = PeriodicCallback(update, seconds * 1000)
        cluster.periodic_callbacks["cluster-repr"] = callback
        callback.start()

    update()
    cluster.loop.add_callback(install)
    return tabs


def _controls(widgets: Any, cluster: ScalableCluster, context: ClusterContext, message: Any) -> Any:
    style, layout = {"description_width": "initial"}, widgets.Layout(width="240px")

    def number(description: str) -> Any:
        return widgets.BoundedIntText(
            min=0, max=1_000_000, description=description, style=style, layout=layout
        )

    elastic = list(context.elastic)
    group = widgets.Dropdown(options=elastic, description="Group", style=style, layout=layout)
    nodes = number("Nodes")
    minimum, maximum = number("Minimum of Dask workers"), number("Maximum of Dask workers")
    scale, adapt = (widgets.Button(description=text) for text in ("Scale", "Adapt"))

    def select_group(change: Any = None) -> None:
        nodes.value = len(cluster.nodes_of(group.value))
        minimum.value, maximum.value = context.worker_bounds(group.value)

    def on_click(button: Any, action: Callable[[], str]) -> None:
        def run(button: Any) -> None:
            try:
                message.value = text_html(action())
            except (PlanapplyError, ValueError, RuntimeError) as error:
                message.value = f'<span style="color: #cf222e">{text_html(str(error))}</span>'

        button.on_click(run)

    def scale_group() -> str:
        cluster.stop_adapting()
        cluster.scale(nodes.value, group=group.value)
        plural = "s" * (nodes.value != 1)
        return f"Scaling {group.value} to {nodes.value} node{plural}."

    def adapt_group() -> str:
        adaptive = cluster.adapt(minimum=minimum.value, maximum=maximum.value, group=group.value)
        return f"Adapting {group.value} between {adaptive.minimum} and {adaptive.maximum} nodes."

    select_group()
    group.observe(select_group, names="value")
    on_click(scale, scale_group)
    on_click(adapt, adapt_group)
    rows = [widgets.HBox([nodes, scale]), widgets.HBox([minimum, maximum, adapt])]
    return widgets.VBox(rows if len(elastic) == 1 else [group, *rows])
