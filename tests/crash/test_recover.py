"""An apply is killed, and then its state is lost: recover finds what runs, and plan has nothing to do."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash.environment import Ground, environment, local
from crash.forkserver import Ended, Zygote

from planapply.model.state import State
from planapply.store import open_store

pytestmark = pytest.mark.slow

STATE = "planapply.state.json"
POINTS = 60
"""At about so many points an apply of this spec can die."""
SPEC = """\
[cluster]
name = "lost-{number}"
security = "tls"
tags = {{ team = "bio" }}
{ground}
[workers.cpu]
count = 2
options = {{ nthreads = 1, {options} }}
"""
COMPUTE = "import distributed; print(distributed.Client().submit(sum, range(10)).result())"


class Site:
    """A spec in a folder, and commands on it."""

    def __init__(self, ground: Ground, folder: Path, zygote: Zygote) -> None:
        self.ground, self.folder, self._zygote = ground, folder, zygote
        text = SPEC.format(number=os.getpid(), ground=ground.spec, options=ground.options)
        (folder / "planapply.toml").write_text(text)

    def run(self, *arguments: str, die_at: int | None = None) -> Ended:
        return self._zygote.run(*arguments, cwd=self.folder, env=self.ground.env, die_at=die_at)

    def read(self) -> State:
        state = open_store(str(self.folder / STATE)).read()
        assert state is not None
        return state

    def lose(self) -> None:
        """The folder has the spec only."""
        for path in self.folder.glob(f"{STATE}*"):
            path.unlink()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    zygote = Zygote(environment(tmp_path))
    (tmp_path / "site").mkdir()
    with local(tmp_path / "ground") as ground:
        yield Site(ground, tmp_path / "site", zygote)
    zygote.close()


def test_then_plan_says_no_changes_and_clients_connect(site: Site) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "planapply", "apply", "--auto-approve"],
        cwd=site.folder,
        env=dict(site.ground.env),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stderr
        while "cpu-[0..1]: launched" not in killed.stderr.readline():
            assert killed.poll() is None
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    before = site.read()
    site.lose()

    recovered = site.run("recover")
    assert (recovered.code, recovered.err) == (0, "")
    assert recovered.out == (
        f'The state of cluster "{before.cluster}" (3 nodes, serial {site.read().serial}) is now in '
        f"{STATE}\n"
    )
    assert site.run("plan").out == f'No changes. Cluster "{before.cluster}" is as its spec says.\n'
    assert site.read().tls == before.tls

    assert site.run("apply", "--auto-approve").code == 0  # waits until they have joined
    script = f'eval "$({sys.executable} -m planapply env)" && {sys.executable} -c "{COMPUTE}"'
    computed = subprocess.run(
        ["sh", "-c", script], cwd=site.folder, env=dict(site.ground.env), capture_output=True
    )
    assert computed.stdout == b"45\n", computed.stderr.decode()

    site.lose()
    assert site.run("recover").code == 0
    state = site.read()
    assert {record.status for record in state.nodes.values()} == {"joined"}
    assert state.endpoint
    assert state.endpoint.dashboard
    assert site.run("destroy", "--auto-approve").code == 0
    assert site.ground.alive(state.lineage) == []
    assert site.ground.leftovers(state.lineage) == []


@pytest.mark.parametrize("seed", range(6))
def test_wherever_it_was_killed(site: Site, seed: int) -> None:
    die_at = random.Random(seed).randrange(POINTS // 3, POINTS)
    killed = site.run("apply", "--auto-approve", "--no-wait", die_at=die_at)
    lineage = site.read().lineage if (site.folder / STATE).exists() else ""
    there = site.ground.alive(lineage) if lineage else []
    site.lose()
    recovered = site.run("recover")
    if not there:
        assert recovered.code == 1
        assert recovered.err.startswith("Error: no VM carries the tags of a cluster ")
        return
    assert recovered.code == 0, recovered.err
    assert sorted(site.read().nodes) == sorted(str(vm.name) for vm in there)
    assert site.read().lineage == lineage
    assert killed.code in (0, -signal.SIGKILL)
    applied = site.run("apply", "--auto-approve", "--no-wait")
    assert applied.code == 0, applied.err
    names = sorted(str(vm.name) for vm in site.ground.alive(lineage))
    assert names == ["cpu-0", "cpu-1", "scheduler"]
    assert {vm.id for vm in there} <= {vm.id for vm in site.ground.alive(lineage)}
    assert site.run("plan").out.startswith("No changes.")
    assert site.run("destroy", "--auto-approve").code == 0
    assert site.ground.leftovers(lineage) == []
