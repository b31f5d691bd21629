"""A state-backed cluster as a notebook shows and awaits it."""

import asyncio
from collections.abc import Generator
from typing import Any, Self, cast

from planapply.api.state_cluster import AttachedSpecCluster
from planapply.api.summary import summarize
from planapply.api.widget import ScalableCluster, make_widget
from planapply.render.cluster import cluster_html


class NotebookCluster(AttachedSpecCluster):
    """An AttachedSpecCluster that another event loop may await, whose HTML and widget tell nodes from Dask workers."""

    def __await__(self) -> Generator[Any, Any, Self]:
        own = self.loop.asyncio_loop
        if own is asyncio.get_running_loop() or not own.is_running():
            return super().__await__()

        # A notebook's loop awaits a synchronous cluster, whose locks and tasks belong to another loop.
        async def finish() -> Self:
            return await self

        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(finish(), own)).__await__()

    def _repr_html_(self, cluster_status: Any = None) -> str:
        info = getattr(self.scheduler_info, "_repr_html_", None)
        details = info() if info is not None else "The scheduler has not started yet."
        html = cluster_html(summarize(self, self._context, self._cluster_class_name), details)
        return f"{html}{cluster_status or ''}"

    def _widget(self) -> Any:
        # Dask's has one field "Workers" for what are nodes here, and no groups.
        if not hasattr(self, "_cached_widget"):
            # `scale` and `adapt` are those of the derived class.
            shown = cast(ScalableCluster, self)
            self._cached_widget = make_widget(shown, self._context)
        return self._cached_widget

    def is_adapting(self) -> bool:
        """Return whether this object adapts a group."""
        return self._adaptive is not None and bool(self._adaptive.periodic_callback)

    def stop_adapting(self) -> None:
        """Stop adapting, if this object does."""
        if self._adaptive is not None:
            self._adaptive.stop()
