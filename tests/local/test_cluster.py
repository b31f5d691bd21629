"""Real clusters, launched by the provider alone: nodes find each other by their boot instructions."""

from pathlib import Path

import pytest
from conformance.subjects import Account
from distributed import Client, Security

from planapply.model.node import VM
from planapply.provider import LaunchResult

pytestmark = pytest.mark.slow

PATIENCE = 300
"""Time limit in seconds; a scheduler and some nannies start in two, or more on a busy machine."""


def scheduler(account: Account, **changes: object) -> VM:
    settings = {"group": "scheduler", "cls": "distributed.Scheduler", **changes}
    return account.launch("scheduler", scheduler=None, **settings).vms[0]


def address(vm: VM, protocol: str = "tcp") -> str:
    return f"{protocol}://{vm.private_address}:{vm.port}"


def nannies(account: Account, scheduler: str, *names: str, **changes: object) -> LaunchResult:
    settings = {"cls": "distributed.Nanny", "options": {"nthreads": 1}, **changes}
    return account.launch(*names, scheduler=scheduler, **settings)


def test_cluster_computes_and_workers_exit_with_the_scheduler(account: Account) -> None:
    vm = scheduler(account)
    single = nannies(account, address(vm), "cpu-0").vms[0]
    double = nannies(account, address(vm), "big-0", processes=2, options={}, group="big").vms[0]
    with Client(  # type: ignore[no-untyped-call]
        address(vm), timeout=PATIENCE
    ) as client:
        client.wait_for_workers(3, timeout=PATIENCE)
        assert client.submit(sum, [1, 2]).result() == 3
        workers = client.scheduler_info()["workers"].values()
        assert {worker["name"] for worker in workers} == {"cpu-0", "big-0-0", "big-0-1"}
        limits = {worker["name"]: worker["memory_limit"] for worker in workers}
        assert limits["big-0-0"] == limits["big-0-1"]
        assert client.dashboard_link.startswith("http://127.0.0.1:")
    account.provider.terminate([vm.id])
    account.wait_until(lambda: account.find() == [])
    for worker in (single, double):
        log = account.provider.console(worker.id, 1)  # type: ignore[attr-defined]
        assert log == "planapply: the Dask process exited: exit code 0\n"
    account.provider.terminate([single.id, double.id])


def test_tls_cluster(account: Account, folder: Path) -> None:
    vm = scheduler(account, security="tls")
    nannies(account, address(vm, "tls"), "cpu-0", security="tls")
    certificate = str(folder / vm.id / "tls-certificate.pem")
    security = Security(  # type: ignore[no-untyped-call]
        tls_ca_file=certificate,
        tls_client_cert=certificate,
        tls_client_key=str(folder / vm.id / "tls-key.pem"),
        require_encryption=True,
    )
    with Client(  # type: ignore[no-untyped-call]
        address(vm, "tls"), timeout=PATIENCE, security=security
    ) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        assert client.submit(sum, [1, 2]).result() == 3


def test_worker_gives_up_on_an_absent_scheduler(account: Account) -> None:
    options = {"death_timeout": 1}
    vm = account.launch("cpu-0", cls="distributed.Worker", options=options).vms[0]
    account.wait_until(lambda: account.find() == [])
    account.provider.terminate([vm.id])


def test_idle_scheduler_exits(account: Account) -> None:
    vm = scheduler(account, idle_timeout=0.5)
    account.wait_until(lambda: account.find() == [])
    account.provider.terminate([vm.id])


def test_workers_exit_after_the_scheduler_is_killed(account: Account) -> None:
    from planapply_local.supervisor import kill

    vm = scheduler(account)
    worker = nannies(account, address(vm), "cpu-0").vms[0]
    with Client(  # type: ignore[no-untyped-call]
        address(vm), timeout=PATIENCE
    ) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
    kill(vm.id)
    account.wait_until(lambda: account.find() == [])
    account.provider.terminate([vm.id, worker.id])


def test_unknown_class_is_logged(account: Account) -> None:
    vm = scheduler(account, cls="nowhere.Scheduler")
    account.wait_until(lambda: account.find() == [])
    log = account.provider.console(vm.id, 2)  # type: ignore[attr-defined]
    assert "No module named 'nowhere'" in log
    account.provider.terminate([vm.id])
