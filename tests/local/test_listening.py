"""No process of a local cluster listens beyond loopback: without TLS, a worker runs what it receives."""

import ipaddress
import os
from pathlib import Path

import psutil
import pytest
from conformance.subjects import Account
from distributed import Client
from planapply_local.supervisor import find_processes

from planapply.dask.scheduler import build_security

pytestmark = pytest.mark.slow

OWN_CLASS = """
import distributed

class OwnWorker(distributed.Worker):
    pass

class OwnNanny(distributed.Nanny):
    pass
"""


def listening(vms: set[str]) -> dict[str, set[str]]:
    """Return the addresses on which processes of these VMs listen, by VM, children included."""
    found: dict[str, set[str]] = {}
    for vm, members in find_processes().items():
        if vm in vms:
            for process, _ in members:
                for member in (process, *process.children(recursive=True)):
                    for connection in member.net_connections("inet"):
                        if connection.status == psutil.CONN_LISTEN:
                            found.setdefault(vm, set()).add(str(connection.laddr.ip))
    return found


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("security", ["none", "tls"])
def test_only_loopback(account: Account, tmp_path: Path, security: str, processes: int) -> None:
    (tmp_path / "own_classes.py").write_text(OWN_CLASS)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = account.subject.worker.environment.model_copy(
        update={"env": {"PYTHONPATH": path}}
    )
    settings = {"environment": environment, "security": security}
    scheduler = account.launch(
        "scheduler",
        scheduler=None,
        **settings,
        group="scheduler",
        cls="distributed.Scheduler",
        options={"dashboard_address": ":0"},
    ).vms[0]
    address = f"{'tls' if security == 'tls' else 'tcp'}://127.0.0.1:{scheduler.port}"
    classes = (
        "distributed.Worker",
        "distributed.Nanny",
        "own_classes.OwnWorker",
        "own_classes.OwnNanny",
    )
    options = [{}, {"dashboard_address": ":0"}]
    vms = {scheduler.id}
    for index, cls in enumerate(classes):
        vms |= {
            vm.id
            for vm in account.launch(
                f"cpu-{index}",
                scheduler=address,
                cls=cls,
                processes=processes,
                options={"nthreads": 1, **options[index % 2]},
                **settings,
            ).vms
        }
    tls = account.state.tls if security == "tls" else None
    with Client(address, timeout=300, security=build_security(tls)) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(len(classes) * processes, timeout=300)
        found = listening(vms)
    assert found.keys() == vms
    beyond = {
        vm: addresses
        for vm, addresses in found.items()
        if not all(ipaddress.ip_address(address).is_loopback for address in addresses)
    }
    assert not beyond
