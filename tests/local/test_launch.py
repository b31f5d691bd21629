"""Launch: each VM is started exactly once, also with concurrent or killed processes."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from conformance.subjects import Account
from planapply_local import PLUGIN, LocalSettings
from planapply_local.supervisor import ENV_SUPERVISOR, find_processes
from pydantic import ValidationError

from planapply.model.node import NodeConfig
from planapply.model.state import Choice
from planapply.provider import Boot, ErrorKind, LaunchRequest, ProviderError

NAMES = tuple(f"cpu-{place}" for place in range(6))
LAUNCHER = """
import json, sys
from planapply.model.node import NodeConfig
from planapply.model.state import Choice
from planapply.provider import Boot, LaunchRequest
from planapply_local import PLUGIN, LocalSettings

request = json.load(sys.stdin)
boots = tuple(Boot(**boot) for boot in request.pop("boots"))
config = NodeConfig.model_validate_json(request.pop("config"))
provider = PLUGIN.connect(LocalSettings(folder=sys.argv[1]))
print("asking", flush=True)
provider.launch(LaunchRequest(**request, config=config, choice=Choice(), boots=boots))
"""


def _launcher(request: LaunchRequest, folder: Path) -> subprocess.Popen[str]:
    """Start another process that sends this request."""
    document = {
        "token": request.token,
        "names": request.names,
        "tags": request.tags,
        "config": request.config.model_dump_json(),
        "boots": [{"argv": boot.argv, "env": boot.env} for boot in request.boots],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin
    process.stdin.write(json.dumps(document))
    process.stdin.close()
    return process


def _count_supervisors(request: LaunchRequest) -> Counter[str]:
    """Count the supervisors of each VM; for a moment, a new child is a copy of its supervisor."""
    return Counter(
        id
        for id, members in find_processes().items()
        for _, environment in members
        if ENV_SUPERVISOR in environment and id.startswith(f"vm-{request.token}-")
    )


@pytest.mark.parametrize("moment", range(10))
def test_killed_launch_is_completed(
    moment: int, account: Account, folder: Path, script_request: Callable[..., LaunchRequest]
) -> None:
    request = script_request(*["import time; time.sleep(1000)"] * len(NAMES))
    with _launcher(request, folder) as launcher:
        assert launcher.stdout
        assert launcher.stdout.readline() == "asking\n"
        time.sleep(0.03 * moment)
        launcher.kill()
    result = account.provider.launch(request)
    assert [vm.name for vm in result.vms] == [*NAMES]
    assert result.shortfall is None
    assert account.find() == sorted(result.vms, key=lambda vm: (vm.launched_at or 0.0, vm.id))
    account.wait_until(
        lambda: _count_supervisors(request) == Counter({vm.id: 1 for vm in result.vms})
    )


def test_concurrent_launches_with_one_token(
    account: Account, folder: Path, script_request: Callable[..., LaunchRequest]
) -> None:
    request = script_request(*["import time; time.sleep(1000)"] * len(NAMES))
    with ExitStack() as stack:  # wait for them in any case: none may launch after the test
        launchers = [stack.enter_context(_launcher(request, folder)) for _ in range(3)]
        assert [launcher.stdout and launcher.stdout.read() for launcher in launchers] == (
            ["asking\n"] * 3
        )
    assert [launcher.returncode for launcher in launchers] == [0, 0, 0]
    assert {vm.name for vm in account.find()} == {*NAMES}
    account.wait_until(lambda: set(_count_supervisors(request).values()) == {1})


def test_environment_is_passed_on_literally(
    account: Account,
    folder: Path,
    script_request: Callable[..., LaunchRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"/mine:{os.environ['PATH']}")
    code = (
        "import json, os, time; "
        "json.dump(dict(os.environ), open('e', 'w')); os.rename('e', 'env'); time.sleep(1000)"
    )
    request = script_request(code)
    env = {
        "LINK": "http://{host}:{port}/{folder}/{nthreads}",
        "PATH": "/x:$PATH",
        "NEW": "a:${NEW}",
        "SECRET": "$PATH{host}",
    }
    boot = Boot(
        argv=request.boots[0].argv,
        env=env,
        files={"key.pem": "KEY"},
        file_env={"KEY_FILE": "key.pem"},
    )
    account.provider.launch(replace(request, boots=(boot,)))
    [home] = folder.glob("vm-*")
    account.wait_until((home / "env").exists)
    found = json.loads((home / "env").read_text())
    assert {name: found[name] for name in env} == {
        **env,
        "PATH": f"/x:{os.environ['PATH']}",
        "NEW": "a:",
    }
    assert Path(found["KEY_FILE"]) == home / "key.pem"
    assert Path(found["KEY_FILE"]).read_text() == "KEY"


def test_terminated_vm_is_not_started_again(
    account: Account, folder: Path, script_request: Callable[..., LaunchRequest]
) -> None:
    request = script_request("import time; time.sleep(1000)", "raise SystemExit('no such class')")
    account.provider.launch(request)
    account.wait_until(lambda: [vm.name for vm in account.find()] == ["cpu-0"])
    result = account.provider.launch(request)
    assert [vm.name for vm in result.vms] == ["cpu-0"]
    assert result.shortfall is not None
    assert result.shortfall.kind is ErrorKind.TOKEN_SPENT
    assert result.shortfall.summary == "stopped right after the start: cpu-1"
    assert "no such class" in result.shortfall.detail
    assert [path.name for path in folder.glob("vm-*")] == [f"vm-{request.token}-0"]


def test_schedulers_get_separate_ports(account: Account) -> None:
    ports = [
        account.launch("scheduler", scheduler=None, group="scheduler", cls="distributed.Scheduler")
        .vms[0]
        .port
        for _ in range(3)
    ]
    assert None not in ports
    assert len(set(ports)) == 3
    assert sorted(vm.port or 0 for vm in account.find()) == sorted(port or 0 for port in ports)


def _refused(request: LaunchRequest, folder: Path) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        PLUGIN.connect(LocalSettings(folder=str(folder))).launch(request)
    return raised.value


def test_unwritable_folder_is_reported(account: Account, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    error = _refused(account.request("cpu-0"), file / "folder")
    assert error.kind is ErrorKind.REJECTED
    assert f"'{file / 'folder'}'" in error.summary


def test_broken_python_is_reported(
    account: Account, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = account.request("cpu-0")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    error = _refused(request, folder)
    assert error.kind is ErrorKind.REJECTED
    assert "cannot start cpu-0" in error.summary
    assert "/nowhere/python" in error.detail


@pytest.mark.parametrize(
    ("options", "summary"),
    [
        ({"port": "8786-8790"}, "'8786-8790' is not a port"),
        ({"port": 70000}, "70000 is not a port"),
        ({"host": "192.0.2.1", "port": 8786}, "the scheduler cannot listen on 192.0.2.1:8786: "),
        ({"interface": "eth99"}, "this machine has no network interface 'eth99'"),
    ],
)
def test_invalid_address_is_reported(
    account: Account, folder: Path, options: dict[str, object], summary: str
) -> None:
    request = account.request("scheduler", scheduler=None, group="scheduler", options=options)
    error = _refused(request, folder)
    assert error.kind is ErrorKind.REJECTED
    assert error.summary.startswith(summary)


def test_token_with_a_path_is_refused(folder: Path) -> None:
    request = LaunchRequest(
        token="../../up",
        names=("cpu-0",),
        config=NodeConfig(group="cpu", cls="distributed.Nanny"),
        choice=Choice(),
        tags={},
        boots=(Boot(argv=(), env={}),),
    )
    assert _refused(request, folder).kind is ErrorKind.REJECTED
    assert _refused(replace(request, token="x" * 65), folder).kind is ErrorKind.REJECTED


def test_invalid_id_removes_nothing(account: Account, folder: Path) -> None:
    folder.mkdir()
    kept = folder / "kept"
    kept.touch()
    account.provider.terminate(["", ".", "..", "/", "../local", "vm-", "kept"])
    assert kept.exists()
    kept.unlink()


def test_setting_folder() -> None:
    with pytest.raises(ValidationError, match="the path is relative"):
        LocalSettings(folder="here")
    provider = PLUGIN.connect(LocalSettings(folder="~/there"))
    assert provider.folder == Path.home() / "there"  # type: ignore[attr-defined]
