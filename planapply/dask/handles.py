"""VM-backed scheduler and worker classes, for a SpecCluster or for an apply."""

from typing import Any

from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from planapply.dask.batching import NodeFailed, RequestQueue
from planapply.fleet import LaunchSpec, ProviderFailed
from planapply.model.endpoint import scheduler_address
from planapply.model.names import SCHEDULER
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord


class VMProcess(ProcessInterface):
    """What VMScheduler and VMWorker share: one node, launched and ended through a queue.

    With a `record` the node is adopted: starting it launches nothing.
    """

    def __init__(
        self,
        *,
        name: str,
        config: NodeConfig,
        queue: RequestQueue,
        record: NodeRecord | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name, self.config, self.queue, self.record = name, config, queue, record
        self._scheduler_address: str | None = None

    async def start(self) -> None:
        """Launch the VM unless it is there; raises PlanapplyError in the provider's words."""
        if self.record is None:
            try:
                spec = LaunchSpec(self.name, self.config, self._scheduler_address)
                self.record = await self.queue.launch(spec)
            except BaseException:
                self.status = Status.failed
                raise
        self._on_started(self.record)
        await super().start()

    def _on_started(self, record: NodeRecord) -> None:
        """What is known once there is a VM."""

    async def close(self) -> None:
        """End the VM; returns when it is confirmed gone. Raises PlanapplyError."""
        if self.status in (Status.closed, Status.closing):
            await self.finished()
            return
        self.status = Status.closing
        try:
            if self.record is not None:  # else there is none, or nothing more than an intent
                await self.queue.terminate(self.name, self.record.vm)
        except BaseException as error:
            self.status = Status.failed
            if isinstance(error, ProviderFailed):
                raise NodeFailed(self.name, error.error) from error
            raise
        self.record = None
        await super().close()

    async def exists(self) -> bool:
        """Whether the cloud still shows the VM; raises PlanapplyError where that can't be known."""
        return await self.queue.exists(self.name)

    def release(self) -> None:
        """The VM is no longer this handle's: it lives on, or is gone; the cloud is asked nothing."""
        self.status = Status.closed
        self._event_finished.set()


class VMScheduler(VMProcess):
    """A Dask scheduler on a VM of its own; use it as the `cls` of a SpecCluster's scheduler.

    `Spec.cluster_spec()` makes its options. `address` is the one for clients, `contact_address` the
    one that workers are told.
    """

    def __init__(
        self,
        *,
        config: NodeConfig,
        queue: RequestQueue,
        name: str = SCHEDULER,
        record: NodeRecord | None = None,
    ) -> None:
        super().__init__(name=name, config=config, queue=queue, record=record)
        self.contact_address: str | None = None

    def _on_started(self, record: NodeRecord) -> None:
        self.contact_address = scheduler_address(record, self.config, public=False)
        self.address = scheduler_address(record, self.config, public=True)


class VMWorker(VMProcess):
    """A VM with one or more Dask workers; use it as the `cls` of a SpecCluster's workers.

    `scheduler` is the address that it is told to join.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        name: str,
        config: NodeConfig,
        queue: RequestQueue,
        record: NodeRecord | None = None,
    ) -> None:
        super().__init__(scheduler=scheduler, name=name, config=config, queue=queue, record=record)
        self._scheduler_address = scheduler
