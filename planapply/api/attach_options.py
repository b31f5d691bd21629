"""The arguments of SpecCluster for a cluster that is opened."""

from collections.abc import Collection
from typing import Any, TypedDict

from tornado.ioloop import IOLoop


class AttachOptions(TypedDict, total=False):
    """The arguments of SpecCluster that apply to a cluster that is running already."""

    asynchronous: bool
    loop: IOLoop | None
    silence_logs: Any
    scheduler_sync_interval: Any
    shutdown_on_close: bool


def check_options(options: Collection[str]) -> None:
    """Check that arguments of SpecCluster are among those for a cluster that is opened."""
    supported = AttachOptions.__annotations__.keys()
    if unsupported := set(options) - supported:
        raise TypeError(
            f"cannot pass {', '.join(sorted(unsupported))}: of SpecCluster's arguments, a cluster that "
            f"is opened takes {', '.join(sorted(supported))}"
        )
