"""The life of one VM: its processes, its folder, its end."""

import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conformance.subjects import Account
from planapply_local.vm import KEEPER, processes

from planapply.model.node import VM, Environment

Run = Callable[..., VM]
SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# A child in a session of its own, as a task may start one.
PARENT = (
    "import subprocess, sys; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], "
    f"start_new_session=True); {SLEEP}"
)


def _keeper(vm: VM) -> psutil.Process:
    (keeper,) = [process for process, env in processes()[vm.id] if KEEPER in env]
    return keeper


def _up(account: Account, vm: VM) -> None:
    account.eventually(lambda: "up" in account.provider.console(vm.id, 10))  # type: ignore[attr-defined]


def test_it_is_a_session_of_its_own(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    sessions = {os.getsid(process.pid) for process, _ in processes()[vm.id]}
    assert len(sessions) == 1
    assert os.getsid(0) not in sessions
    assert _keeper(vm).parent() != psutil.Process()


def test_a_crash_at_the_start_can_be_read_until_it_is_terminated(
    account: Account, run: Run, folder: Path
) -> None:
    vm = run("raise SystemExit('no such class')")
    account.eventually(lambda: account.find() == [])
    assert account.provider.console(vm.id, 2).splitlines() == [  # type: ignore[attr-defined]
        "no such class",
        "planapply: the Dask process ended: exit code 1",
    ]
    assert (folder / vm.id).exists()
    account.provider.terminate([vm.id])
    assert not (folder / vm.id).exists()


def test_ttl_ends_it(account: Account, run: Run) -> None:
    vm = run(SLEEP, ttl=0.5)
    account.eventually(lambda: account.find() == [])
    assert "signal SIGTERM" in account.provider.console(vm.id, 1)  # type: ignore[attr-defined]
    account.provider.terminate([vm.id])


def test_terminate_ends_all_of_it_and_its_folder(account: Account, run: Run, folder: Path) -> None:
    vm = run(PARENT)
    _up(account, vm)
    members = [process for process, _ in processes()[vm.id]]
    assert len(members) == 3
    account.provider.terminate([vm.id])
    account.eventually(lambda: not any(process.is_running() for process in members))
    account.eventually(lambda: not (folder / vm.id).exists())


def test_its_own_end_leaves_no_process(account: Account, run: Run) -> None:
    vm = run(PARENT.replace("time.sleep(1000)", "pass").replace("'import time; pass'", repr(SLEEP)))
    account.eventually(lambda: vm.id not in processes())
    account.provider.terminate([vm.id])


def test_one_that_will_not_end_is_killed_after_a_grace(account: Account, run: Run) -> None:
    vm = run(DEAF)
    _up(account, vm)
    keeper = _keeper(vm)
    keeper.suspend()  # the grace does not begin before we have looked
    account.provider.terminate([vm.id])
    assert [vm.status for vm in account.find()] == ["stopping"]
    keeper.resume()
    account.eventually(lambda: account.find() == [])


def test_asked_again_it_is_killed_at_once(account: Account, run: Run, folder: Path) -> None:
    vm = run(DEAF)
    _up(account, vm)
    account.provider.terminate([vm.id])
    account.provider.terminate([vm.id])
    assert account.find() == []
    assert not (folder / vm.id).exists()


def test_without_its_folder_it_is_found_and_ended(account: Account, run: Run, folder: Path) -> None:
    vm = run(SLEEP, tags={"team": "bio"})
    _up(account, vm)
    shutil.rmtree(folder)
    assert account.find() == [vm]
    assert account.provider.console(vm.id, 10) == ""  # type: ignore[attr-defined]
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_without_its_keeper_it_is_found_and_ended(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    keeper = _keeper(vm)
    keeper.kill()
    account.eventually(lambda: not keeper.is_running())
    assert account.find() == [vm]
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_a_stopped_keeper_does_not_save_it(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    _keeper(vm).send_signal(signal.SIGSTOP)
    account.provider.terminate([vm.id])
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_only_its_user_can_read_its_folder(account: Account, folder: Path) -> None:
    vm = account.launch("cpu-0", scheduler="tls://127.0.0.1:9", security="tls").vms[0]
    modes = {
        path.name: stat.filemode(path.stat().st_mode)
        for path in [folder, folder / vm.id, *(folder / vm.id).glob("*.pem")]
    }
    modes["log"] = stat.filemode((folder / vm.id / "log").stat().st_mode)
    assert modes == {
        "local": "drwx------",
        vm.id: "drwx------",
        "tls-certificate.pem": "-rw-------",
        "tls-key.pem": "-rw-------",
        "log": "-rw-------",
    }


def test_its_environment_is_not_another_clusters(
    account: Account, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://elsewhere:8786")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", "/elsewhere.pem")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")
    monkeypatch.setenv("PLANAPPLY_VM", "outer")
    monkeypatch.setenv("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "debug")
    environment = Environment(env={"OMP_NUM_THREADS": "1"})
    vm = account.launch("cpu-0", environment=environment).vms[0]
    for _, seen in processes()[vm.id]:
        assert "DASK_SCHEDULER_ADDRESS" not in seen
        assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" not in seen
        assert "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION" not in seen
        assert seen["DASK_DISTRIBUTED__LOGGING__DISTRIBUTED"] == "debug"
        if KEEPER not in seen:
            assert seen["OMP_NUM_THREADS"] == "1"
            assert seen["PLANAPPLY_NODE"] == "cpu-0"
            assert seen["DASK_TEMPORARY_DIRECTORY"] == str(folder / vm.id)
