"""An apply is killed, and then its state is lost: recover finds the VMs, and plan shows no changes."""

import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.environment import Environment, local_environment
from crash.forkserver import CommandResult, ForkServer
from order import few

from planapply.model.state import State
from planapply.store import open_store

pytestmark = pytest.mark.slow

STATE = "planapply.state.json"
POINTS = 60
"""The approximate number of points at which an apply of this spec can die."""
SPEC = """\
[cluster]
name = "lost-{number}"
security = "tls"
tags = {{ team = "bio" }}
{environment}
[workers.cpu]
count = 2
options = {{ nthreads = 1, {options} }}
"""
COMPUTE = "import distributed; print(distributed.Client().submit(sum, range(10)).result())"


class Project:
    """A spec in a folder, and commands on it."""

    def __init__(self, environment: Environment, folder: Path, fork_server: ForkServer) -> None:
        self.environment, self.folder, self._fork_server = environment, folder, fork_server
        text = SPEC.format(
            number=uuid.uuid4().hex[:12], environment=environment.spec, options=environment.options
        )
        (folder / "planapply.toml").write_text(text)

    def run(self, *arguments: str, die_at: int | None = None) -> CommandResult:
        return self._fork_server.run(
            *arguments, cwd=self.folder, env=self.environment.env, die_at=die_at
        )

    def read(self) -> State:
        state = open_store(str(self.folder / STATE)).read()
        assert state is not None
        return state

    def delete_state(self) -> None:
        """Remove everything from the folder except the spec."""
        for path in self.folder.glob(f"{STATE}*"):
            path.unlink()


@pytest.fixture
def project(tmp_path: Path, fork_server: ForkServer) -> Iterator[Project]:
    (tmp_path / "site").mkdir()
    with local_environment(tmp_path / "ground") as environment:
        yield Project(environment, tmp_path / "site", fork_server)


def test_recovered_cluster_has_no_changes_and_clients_connect(project: Project) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "planapply", "apply", "--auto-approve"],
        cwd=project.folder,
        env=dict(project.environment.env),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stderr
        while "cpu-[0-1]: launched" not in killed.stderr.readline():
            assert killed.poll() is None
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    before = project.read()
    project.delete_state()

    recovered = project.run("recover")
    assert (recovered.code, recovered.err) == (0, "")
    assert recovered.out == (
        f'The state of cluster "{before.cluster}" (3 nodes, serial {project.read().serial}) is now in '
        f"{STATE}\n"
    )
    assert project.run("plan").out == f'No changes. Cluster "{before.cluster}" matches its spec.\n'
    assert project.read().tls == before.tls

    assert project.run("apply", "--auto-approve").code == 0  # waits until the nodes have joined
    script = f'eval "$({sys.executable} -m planapply env)" && {sys.executable} -c "{COMPUTE}"'
    computed = subprocess.run(
        ["sh", "-c", script],
        cwd=project.folder,
        env=dict(project.environment.env),
        capture_output=True,
    )
    assert computed.stdout == b"45\n", computed.stderr.decode()

    project.delete_state()
    assert project.run("recover").code == 0
    state = project.read()
    assert {record.status for record in state.nodes.values()} == {"joined"}
    assert state.endpoint == before.endpoint
    assert project.run("destroy", "--auto-approve").code == 0
    assert project.environment.live_vms(state.lineage) == []
    assert project.environment.leftovers(state.lineage) == []


@pytest.mark.parametrize("seed", few(range(6), 2))
def test_recover_after_a_kill_at_any_point(project: Project, seed: int) -> None:
    die_at = random.Random(seed).randrange(POINTS // 3, POINTS)
    killed = project.run("apply", "--auto-approve", "--no-wait", die_at=die_at)
    lineage = project.read().lineage if (project.folder / STATE).exists() else ""
    survivors = project.environment.live_vms(lineage) if lineage else []
    project.delete_state()
    recovered = project.run("recover")
    if not survivors:
        assert recovered.code == 1
        assert recovered.err.startswith("Error: cannot find any VM with the tags of cluster ")
        return
    assert recovered.code == 0, recovered.err
    assert sorted(project.read().nodes) == sorted(str(vm.name) for vm in survivors)
    assert project.read().lineage == lineage
    assert killed.code in (0, -signal.SIGKILL)
    applied = project.run("apply", "--auto-approve", "--no-wait")
    assert applied.code == 0, applied.err
    names = sorted(str(vm.name) for vm in project.environment.live_vms(lineage))
    assert names == ["cpu-0", "cpu-1", "scheduler"]
    assert {vm.id for vm in survivors} <= {vm.id for vm in project.environment.live_vms(lineage)}
    assert project.run("plan").out.startswith("No changes.")
    assert project.run("destroy", "--auto-approve").code == 0
    assert project.environment.leftovers(lineage) == []
