"""Life of one VM: its processes, its folder, and its termination."""

import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conformance.subjects import Account
from planapply_local.supervisor import ENV_SUPERVISOR, find_processes

from planapply.model.end_reason import EndReason
from planapply.model.node import VM, Environment

Run = Callable[..., VM]
SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
# Code that starts a child in its own session, as a task may do.
PARENT = (
    "import subprocess, sys; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], "
    f"start_new_session=True); {SLEEP}"
)


def _supervisor(vm: VM) -> psutil.Process:
    (supervisor,) = [process for process, env in find_processes()[vm.id] if ENV_SUPERVISOR in env]
    return supervisor


def _up(account: Account, vm: VM) -> None:
    account.wait_until(lambda: "up" in account.provider.console(vm.id, 10))  # type: ignore[attr-defined]


def test_vm_has_its_own_session(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    sessions = {os.getsid(process.pid) for process, _ in find_processes()[vm.id]}
    assert len(sessions) == 1
    assert os.getsid(0) not in sessions
    assert _supervisor(vm).parent() != psutil.Process()


def test_console_of_a_crashed_vm_is_kept_until_terminate(
    account: Account, run: Run, folder: Path
) -> None:
    vm = run("raise SystemExit('no such class')")
    account.wait_until(lambda: account.find() == [])
    assert account.provider.console(vm.id, 2).splitlines() == [  # type: ignore[attr-defined]
        "no such class",
        "planapply: the Dask process exited: exit code 1",
    ]
    assert (folder / vm.id).exists()
    account.provider.terminate([vm.id])
    assert not (folder / vm.id).exists()


def test_ttl_terminates_the_vm(account: Account, run: Run) -> None:
    vm = run(SLEEP, ttl=0.5)
    account.wait_until(lambda: account.find() == [])
    assert "signal SIGTERM" in account.provider.console(vm.id, 1)  # type: ignore[attr-defined]
    account.provider.terminate([vm.id])


@pytest.mark.parametrize(
    ("code", "options", "reason"),
    [
        (SLEEP, {"ttl": 0.5}, EndReason.TTL),
        ("raise SystemExit('no such class')", {}, EndReason.FAILED),
        ("import os; os.kill(os.getpid(), 9)", {}, EndReason.FAILED),
        ("print('done')", {}, EndReason.POWERED_OFF),
    ],
)
def test_supervisor_records_why_the_vm_ended(
    account: Account, run: Run, code: str, options: dict[str, float], reason: EndReason
) -> None:
    vm = run(code, **options)
    provider: Any = account.provider
    account.wait_until(lambda: account.find() == [])
    assert provider.end_reasons([vm.id, "vm-other", "../etc"]) == {vm.id: reason}
    provider.terminate([vm.id])
    assert provider.end_reasons([vm.id]) == {}


def test_killed_supervisor_leaves_no_reason(account: Account, run: Run, folder: Path) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    for process, _ in find_processes()[vm.id]:
        process.kill()
    account.wait_until(lambda: account.find() == [])
    provider: Any = account.provider
    assert provider.end_reasons([vm.id]) == {}
    (folder / vm.id / "ended").write_text("boredom")  # of a newer version
    assert provider.end_reasons([vm.id]) == {}
    provider.terminate([vm.id])


def test_terminate_ends_all_processes_and_removes_the_folder(
    account: Account, run: Run, folder: Path
) -> None:
    vm = run(PARENT)
    _up(account, vm)
    members = [process for process, _ in find_processes()[vm.id]]
    assert len(members) == 3
    account.provider.terminate([vm.id])
    account.wait_until(lambda: not any(process.is_running() for process in members))
    account.wait_until(lambda: not (folder / vm.id).exists())


def test_exited_vm_leaves_no_process(account: Account, run: Run) -> None:
    vm = run(PARENT.replace("time.sleep(1000)", "pass").replace("'import time; pass'", repr(SLEEP)))
    account.wait_until(lambda: vm.id not in find_processes())
    account.provider.terminate([vm.id])


def test_vm_that_ignores_sigterm_is_killed_after_a_grace_period(account: Account, run: Run) -> None:
    vm = run(DEAF)
    _up(account, vm)
    supervisor = _supervisor(vm)
    supervisor.suspend()  # the grace period begins only after the check
    account.provider.terminate([vm.id])
    assert [vm.status for vm in account.find()] == ["stopping"]
    supervisor.resume()
    account.wait_until(lambda: account.find() == [])


def test_second_terminate_kills_at_once(account: Account, run: Run, folder: Path) -> None:
    vm = run(DEAF)
    _up(account, vm)
    account.provider.terminate([vm.id])
    account.provider.terminate([vm.id])
    assert account.find() == []
    assert not (folder / vm.id).exists()


def test_vm_without_its_folder_is_found_and_terminated(
    account: Account, run: Run, folder: Path
) -> None:
    vm = run(SLEEP, tags={"team": "bio"})
    _up(account, vm)
    shutil.rmtree(folder)
    assert account.find() == [vm]
    assert account.provider.console(vm.id, 10) == ""  # type: ignore[attr-defined]
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_vm_without_its_supervisor_is_found_and_terminated(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    supervisor = _supervisor(vm)
    supervisor.kill()
    account.wait_until(lambda: not supervisor.is_running())
    assert account.find() == [vm]
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_vm_with_a_stopped_supervisor_is_terminated(account: Account, run: Run) -> None:
    vm = run(SLEEP)
    _up(account, vm)
    _supervisor(vm).send_signal(signal.SIGSTOP)
    account.provider.terminate([vm.id])
    account.provider.terminate([vm.id])
    assert account.find() == []


def test_only_the_user_can_read_the_folder(account: Account, folder: Path) -> None:
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


def test_environment_of_another_cluster_is_not_inherited(
    account: Account, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://elsewhere:8786")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", "/elsewhere.pem")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")
    monkeypatch.setenv("PLANAPPLY_VM", "outer")
    monkeypatch.setenv("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "debug")
    environment = Environment(env={"OMP_NUM_THREADS": "1"})
    vm = account.launch("cpu-0", environment=environment).vms[0]
    for _, seen in find_processes()[vm.id]:
        assert "DASK_SCHEDULER_ADDRESS" not in seen
        assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" not in seen
        assert "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION" not in seen
        assert seen["DASK_DISTRIBUTED__LOGGING__DISTRIBUTED"] == "debug"
        if ENV_SUPERVISOR not in seen:
            assert seen["OMP_NUM_THREADS"] == "1"
            assert seen["PLANAPPLY_NODE"] == "cpu-0"
            assert seen["DASK_TEMPORARY_DIRECTORY"] == str(folder / vm.id)
