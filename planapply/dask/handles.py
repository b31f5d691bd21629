"""Scheduler and worker classes whose processes run on VMs, for a SpecCluster or an apply."""

from typing import Any

from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from planapply.dask.batching import NodeFailed, RequestQueue
from planapply.fleet import LaunchSpec, ProviderFailed
from planapply.model.endpoint import scheduler_address
from planapply.model.names import SCHEDULER
from planapply.model.node import NodeConfig
from planapply.model.state import NodeRecord
from planapply.render.html import facts_html


class VMProcess(ProcessInterface):
    """One node, launched and terminated through a queue; base class of VMScheduler and VMWorker.

    With a `record` the node is adopted: `start` launches nothing.
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
        """Launch the VM unless the node is adopted; raises PlanapplyError if the launch fails."""
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
        """Set the attributes that depend on the VM."""

    async def close(self) -> None:
        """Terminate the VM and wait until it is gone; raises PlanapplyError if that fails."""
        if self.status in (Status.closed, Status.closing):
            await self.finished()
            return
        self.status = Status.closing
        try:
            if self.record is not None:  # otherwise there is no VM, or only an intent
                await self.queue.terminate(self.name, self.record.vm)
        except BaseException as error:
            self.status = Status.failed
            if isinstance(error, ProviderFailed):
                raise NodeFailed(self.name, error.error) from error
            raise
        self.record = None
        await super().close()

    async def exists(self) -> bool:
        """Return whether the VM still exists; raises PlanapplyError if the cloud cannot say."""
        return await self.queue.exists(self.name)

    def __repr__(self) -> str:
        facts = ", ".join(filter(None, (self.status.name, *self._facts().values())))
        return f"<{type(self).__name__} {self.name}: {facts}>"

    def _repr_html_(self) -> str:
        facts = [(name, value) for name, value in self._facts().items() if value]
        title = f"{type(self).__name__} {self.name}"
        return facts_html([(title, self.status.name), *facts])

    def _facts(self) -> dict[str, str]:
        """Return what distinguishes this node, each with its title; empty texts are unknown."""
        record = self.record
        if record is None:
            return {}
        size = " ".join(filter(None, (record.size, "spot" if record.spot else "")))
        return {"Size": size, "Zone": record.zone or "", "VM": record.vm}

    def release(self) -> None:
        """Release the VM without a request to the cloud: another process controls it, or it is gone."""
        self.status = Status.closed
        self._event_finished.set()


class VMScheduler(VMProcess):
    """A Dask scheduler on a VM of its own; use it as the `cls` of a SpecCluster's scheduler.

    `Spec.cluster_spec()` returns its options. `address` is the address for clients, and
    `contact_address` the one for workers.
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

    def _facts(self) -> dict[str, str]:
        return {**super()._facts(), "Address": self.address or ""}


class VMWorker(VMProcess):
    """A VM with one or more Dask workers; use it as the `cls` of a SpecCluster's workers.

    `scheduler` is the address of the scheduler to join. `name` is a node's name; a number, as a
    SpecCluster that scales passes it, stands for the next free name of the group.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        name: str | int,
        config: NodeConfig,
        queue: RequestQueue,
        record: NodeRecord | None = None,
    ) -> None:
        if isinstance(name, int):
            name = queue.next_name(config.group)
        super().__init__(scheduler=scheduler, name=name, config=config, queue=queue, record=record)
        self._scheduler_address = scheduler
