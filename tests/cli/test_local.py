"""The commands on real clusters of this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import COMMAND
from crash.forkserver import shared_server
from distributed import wait
from planapply_local.provider import LocalProvider
from planapply_local.supervisor import find_processes

import planapply
from planapply.model.node import TAG_CLUSTER

pytestmark = pytest.mark.slow

SPEC = """\
[cluster]
name = "NAME"
security = "tls"

[scheduler]
options = { dashboard = false }

[workers.cpu]
count = 2
options = { nthreads = 1, memory_limit = "1 GiB" }
"""


@pytest.fixture
def local(environment: dict[str, str], folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A spec of a cluster that no other test uses; its processes are stopped after the test."""
    name = f"cli-{os.getpid()}-{abs(hash(str(tmp_path)))}"
    Path("planapply.toml").write_text(SPEC.replace("NAME", name))
    yield environment
    provider = LocalProvider()
    left = [vm.id for vm in provider.find({TAG_CLUSTER: name})]
    if left:
        provider.terminate(left)
        provider.terminate(left)
    assert left == []


def command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    with shared_server().start(*arguments, env=environment) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


COMPUTE = "import distributed; print(distributed.Client().submit(sum, range(10)).result())"
UNCHANGED = """
import sys
from planapply.cli import main
code = main(["plan", "--detailed-exitcode"])
slow = "asyncio boto3 botocore cryptography dask distributed libcloud obstore rich tornado".split()
print(code, [name for name in slow if name in sys.modules])
"""


def test_cluster_life_cycle_with_tls(local: dict[str, str]) -> None:
    applied = command(local, "apply", "--auto-approve")
    assert applied.returncode == 0, applied.stderr
    assert "Apply complete: 3 added, 0 changed, 0 destroyed.\n\nscheduler_address = tls://" in (
        applied.stdout
    )
    assert "cpu-[0-1]: joined" in applied.stderr or "cpu-1: joined" in applied.stderr

    plan = subprocess.run(
        [sys.executable, "-c", UNCHANGED], env=local, capture_output=True, text=True
    )
    assert plan.stdout.splitlines()[0].startswith("No changes. Cluster ")
    assert plan.stdout.splitlines()[-1] == "0 []"

    status = json.loads(command(local, "status", "--json").stdout)
    assert [(n["name"], n["status"], n["joined"]) for n in status["nodes"]] == [
        ("scheduler", "running", 1),
        ("cpu-0", "running", 1),
        ("cpu-1", "running", 1),
    ]
    assert status["scheduler_answers"] is True
    assert status["unknown_workers"] == status["unknown_vms"] == status["drift"] == []
    assert "2 of 2 worker nodes joined" in command(local, "status").stdout

    script = f'eval "$({sys.executable} -m planapply env)" && {sys.executable} -c "{COMPUTE}"'
    computed = subprocess.run(["sh", "-c", script], env=local, capture_output=True, text=True)
    assert computed.stdout == "45\n", computed.stderr
    log = command(local, "logs", "scheduler").stdout
    assert "distributed.scheduler" in log
    # planapply's own connections, while the scheduler starts too, end as TLS connections should.
    assert "handshake" not in log.lower()
    assert " - ERROR - " not in log

    destroyed = command(local, "destroy", "--auto-approve")
    assert destroyed.returncode == 0, destroyed.stderr
    assert destroyed.stdout.endswith("Destroy complete: 3 destroyed.\n")
    assert not (Path(local["HOME"]) / ".cache" / "planapply" / "tls").exists() or not list(
        (Path(local["HOME"]) / ".cache" / "planapply" / "tls").iterdir()
    )


def test_worker_that_crashes_at_its_start_is_reported(local: dict[str, str]) -> None:
    preload = Path("fails.py").absolute()
    preload.write_text("raise RuntimeError('this is the cause')\n")
    bogus = [
        "--set",
        f"workers.bad={{ count = 2, options = {{ preload = '{preload}' }} }}",
        "--set",
        "workers.cpu.count=1",
    ]
    applied = command(local, "apply", "--auto-approve", *bogus)
    assert applied.returncode == 1
    assert (
        "Error: bad-[0-1] terminated before it joined\n  RuntimeError: this is the cause\n"
    ) in applied.stderr
    assert "Print all output with `planapply logs NODE`." in applied.stderr
    assert "Traceback" not in applied.stderr
    assert (
        "Apply incomplete: 4 added, 0 changed, 0 destroyed, 2 not joined.\n"
        "Launched, but not joined: bad-[0-1]. "
    ) in applied.stdout
    plan = command(local, "plan", *bogus)
    assert "+   bad-[0-1]   (2)\n        (VMs are gone: failed)\n" in plan.stdout
    assert command(local, "destroy", "--auto-approve").returncode == 0


def test_apply_waits_for_nodes_launched_by_an_earlier_apply(local: dict[str, str]) -> None:
    assert command(local, "apply", "--auto-approve", "--no-wait").returncode == 0
    again = command(local, "apply")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("No changes. ")
    assert "Apply complete: 0 added, 0 changed, 0 destroyed." in again.stdout
    assert "scheduler, cpu-[0-1]: launched earlier; have not joined yet" in again.stderr
    state = json.loads(Path("planapply.state.json").read_text())
    assert {node["status"] for node in state["nodes"].values()} == {"joined"}
    third = command(local, "apply")
    assert (third.returncode, third.stderr) == (0, "")
    assert "Apply complete" not in third.stdout
    assert command(local, "destroy", "--auto-approve").returncode == 0


def test_recover_without_a_spec_reads_the_key(local: dict[str, str]) -> None:
    assert command(local, "apply", "--auto-approve").returncode == 0
    before = json.loads(Path("planapply.state.json").read_text())
    Path("planapply.toml").unlink()
    Path("planapply.state.json").unlink()
    recovered = command(local, "recover", before["cluster"], "--provider", "local")
    assert recovered.returncode == 0
    assert "TLS key" not in recovered.stderr
    after = json.loads(Path("planapply.state.json").read_text())
    assert after["tls"] == before["tls"]
    assert after["endpoint"]["private"] == before["endpoint"]["private"]
    with planapply.connect("planapply.state.json") as client:
        assert client.submit(sum, range(10)).result() == 45
    assert command(local, "destroy", "--auto-approve").returncode == 0


def test_temporarily_hanging_scheduler_still_retires_workers(
    local: dict[str, str],
) -> None:
    assert command(local, "apply", "--auto-approve").returncode == 0
    state = json.loads(Path("planapply.state.json").read_text())
    [members] = [m for id, m in find_processes().items() if id == state["nodes"]["scheduler"]["vm"]]
    with planapply.connect() as client:
        held = client.submit(sum, range(10), workers=["cpu-1"], pure=False)
        wait(held)
        smaller = [*COMMAND, "apply", "--auto-approve", "--set", "workers.cpu.count=1"]
        for process, _ in members:
            process.suspend()
        try:
            with subprocess.Popen(smaller, env=local, stderr=subprocess.PIPE, text=True) as apply:
                assert apply.stderr
                assert any("retiring" in line for line in apply.stderr)
                time.sleep(4.0)  # the first attempt to connect has failed by now
                for process, _ in members:
                    process.resume()
                assert "cannot retire" not in apply.stderr.read()
            assert apply.returncode == 0
        finally:
            for process, _ in members:
                process.resume()
        assert held.result(timeout=120) == 45  # the scheduler runs only there
    assert command(local, "destroy", "--auto-approve").returncode == 0
