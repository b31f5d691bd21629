"""The workflow of plan and apply, on real processes of this machine, with drift."""

import os
import re
import shutil
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.commands import Run
from crash.environment import Environment, local_environment
from inline_snapshot import snapshot
from planapply_local.provider import LocalProvider
from planapply_local.supervisor import kill

from planapply.fleet.request import launch_request
from planapply.model.names import format_names, from_ranges
from planapply.model.node import VM
from planapply.model.state import Choice, Intent, State
from planapply.store import open_store

pytestmark = pytest.mark.slow

_LETTERS = string.ascii_lowercase
NAME = "q" + "".join(_LETTERS[os.getpid() // 26**i % 26] for i in range(3))
"""As long as "demo", and unique: all test processes see the processes of this user."""
STATE = "planapply.state.json"
SPEC = """\
[cluster]
name = "{name}"
{environment}
[workers.cpu]
count = 2
options = {{ nthreads = 1, memory_limit = "500 MB" }}
max_unavailable = "100%"
"""


@pytest.fixture
def silent_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command wait for an answer: after --no-wait, the machine's speed decides whether there is one."""
    monkeypatch.setattr("planapply.ops.data_loss._usage", lambda state: None)


def read() -> State:
    state = open_store(STATE).read()
    assert state is not None
    return state


def normalize(text: str) -> str:
    """Return the output without parts that vary."""
    text = re.sub(r"^ *\d+:\d\d  ", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?:^[\w,\[\] -]+: terminated\n)+", merge_ended_lines, text, flags=re.MULTILINE)
    text = re.sub(rf"\b{NAME}\b", "demo", text)
    text = re.sub(r"vm-[0-9a-f]{20}-\d+", "VM", text)
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)


def merge_ended_lines(lines: re.Match[str]) -> str:
    """Return the output with one line for nodes that terminate at the same time, in any order."""
    ranges = [line.removesuffix(": terminated") for line in lines[0].splitlines()]
    return f"{format_names(from_ranges(', '.join(ranges).split(', ')))}: terminated\n"


class Project:
    """A cluster of a scheduler and two workers, with methods that cause drift."""

    def __init__(self, environment: Environment, run: Run, folder: Path) -> None:
        self.environment, self._run, self.folder = environment, run, folder
        self.provider = LocalProvider(str(folder / "local"))

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code and output."""
        result = self._run(*arguments)
        return result.code, normalize(result.out), normalize(result.err)

    def apply(self, *arguments: str) -> tuple[int, str, str]:
        return self("apply", "--auto-approve", "--no-wait", *arguments)

    def names(self) -> list[str]:
        """Return the VMs that exist."""
        return sorted(str(vm.name) for vm in self.environment.live_vms(read().lineage))

    def crash(self, name: str) -> None:
        """Kill all processes of a node that is older than the consistency delay."""
        record = read().nodes[name]
        kill(record.vm)
        shutil.rmtree(self.folder / "local" / record.vm, ignore_errors=True)
        while not record.must_be_visible(time.time(), self.provider.limits.consistency_delay):
            time.sleep(0.05)

    def launch(self, name: str, *, is_known: bool = True) -> VM:
        """Start a VM of this cluster that is no node of the state, which knows its token if `is_known`."""
        state = read()
        token = os.urandom(10).hex()
        if is_known:
            state.issue([token], 0.0)
            state.serial += 1
            store = open_store(STATE)
            store.read()
            store.write(state)
        config = state.nodes["cpu-0"].config
        endpoint = state.endpoint
        assert endpoint
        asked = Intent(
            names=[name],
            config=config,
            choice=Choice(),
            scheduler_address=endpoint.private,
            requested_at=0.0,
        )
        request = launch_request(state, token, asked, self.provider.limits)
        return self.provider.launch(request).vms[0]


@pytest.fixture
def new_project(run: Run, folder: Path, tmp_path: Path) -> Iterator[Project]:
    """A cluster without any launched nodes."""
    with local_environment(tmp_path) as environment:
        Path("planapply.toml").write_text(SPEC.format(name=NAME, environment=environment.spec))
        yield Project(environment, run, tmp_path)


@pytest.fixture
def project(new_project: Project) -> Project:
    assert new_project.apply()[0] == 0
    return new_project


def edit(old: str, new_project: str) -> None:
    spec = Path("planapply.toml")
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new_project))


def test_saved_plan_is_applied_once(new_project: Project) -> None:
    assert new_project("plan", "--out", "the plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   scheduler
  +   cpu-[0-1]   (2)

Plan: 3 to add, 0 to change, 0 to destroy.
"""),
        snapshot("""\

Saved the plan. To apply it, run `planapply apply 'the plan'`.
"""),
    )
    assert new_project("show", "the plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   scheduler
  +   cpu-[0-1]   (2)

Plan: 3 to add, 0 to change, 0 to destroy.
"""),
        "",
    )
    assert new_project("apply", "--no-wait", "the plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   scheduler
  +   cpu-[0-1]   (2)

Plan: 3 to add, 0 to change, 0 to destroy.

Apply complete: 3 added, 0 changed, 0 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\
scheduler: launching
scheduler: launched
cpu-[0-1]: launching
cpu-[0-1]: launched
"""),
    )
    assert new_project.names() == ["cpu-0", "cpu-1", "scheduler"]
    assert new_project("apply", "--no-wait", "the plan") == (
        1,
        "",
        snapshot("""\
Error: the plan file is stale: the serial of the state was 0, and is now 6
  To plan again: `planapply plan --out FILE`
"""),
    )
    assert new_project.names() == ["cpu-0", "cpu-1", "scheduler"]


def test_stale_or_foreign_saved_plan_is_refused(project: Project) -> None:
    assert project("plan", "--out", "p", "--replace", "cpu-0")[0] == 0
    edit("count = 2", "count = 3")
    assert project("apply", "p") == (
        1,
        "",
        snapshot("""\
Error: the plan file is stale: the spec has changed since the plan was made
  To plan again: `planapply plan --replace cpu-0 --out FILE`
"""),
    )
    edit("count = 3", "count = 2")
    assert project("apply", "p", "--replace", "cpu-1") == (
        1,
        "",
        snapshot("""\
Error: cannot combine a plan file with options of `plan`: the saved plan already has them
  Remove the options, or the plan file.
"""),
    )
    edit(f'name = "{NAME}"', 'name = "other"')
    assert project("apply", "p", "--state", "other.json") == (
        1,
        "",
        snapshot("""\
Error: the plan file was made for a different cluster ('demo')
  Apply the plan with the spec and state that it was made from.
"""),
    )
    edit('name = "other"', f'name = "{NAME}"')
    before = read().nodes["cpu-0"].vm
    assert project("apply", "--no-wait", "--no-retire", "p")[0] == 0
    assert read().nodes["cpu-0"].vm != before


def test_saved_destroy_plan_is_applied(project: Project) -> None:
    assert project("plan", "--destroy", "--out", "p")[0] == 0
    assert project("apply", "p") == (
        0,
        snapshot("""\
planapply will destroy cluster "demo" (local):

  -   cpu-[0-1]   (2)
  -   scheduler

Plan: 0 to add, 0 to change, 3 to destroy.

Destroy complete: 3 destroyed.
"""),
        snapshot("""\
cpu-[0-1]: terminating
cpu-[0-1]: terminated
scheduler: terminating
scheduler: terminated
"""),
    )
    assert project.names() == []


def test_lost_vm_is_launched_again(project: Project) -> None:
    project.crash("cpu-1")
    assert project("plan", "--detailed-exitcode") == (
        2,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   cpu-1
        (VM VM is gone)

Plan: 1 to add, 0 to change, 0 to destroy.
"""),
        "",
    )
    assert project("plan", "--no-refresh") == (
        0,
        snapshot('No changes. Cluster "demo" matches its spec.\n'),
        "",
    )
    assert project.apply() == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   cpu-1
        (VM VM is gone)

Plan: 1 to add, 0 to change, 0 to destroy.

Apply complete: 1 added, 0 changed, 0 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\
cpu-1: terminating
cpu-1: terminated
cpu-1: launching
cpu-1: launched
"""),
    )
    assert project.names() == ["cpu-0", "cpu-1", "scheduler"]


def test_refresh_only_records_lost_vms(project: Project) -> None:
    assert project("plan", "--refresh-only") == (
        0,
        snapshot("No changes. The state matches what exists.\n"),
        "",
    )
    project.crash("cpu-1")
    assert project("plan", "--refresh-only", "--detailed-exitcode") == (
        2,
        snapshot("""\
planapply will update the state of cluster "demo" (local):

  cpu-1   VM VM is gone

No VM will be launched or terminated.
"""),
        snapshot(""),
    )
    assert "cpu-1" in read().nodes
    assert project.apply("--refresh-only") == (
        0,
        snapshot("""\
planapply will update the state of cluster "demo" (local):

  cpu-1   VM VM is gone

No VM will be launched or terminated.

Apply complete: the state is up to date.
"""),
        snapshot("cpu-1: terminated\n"),
    )
    assert sorted(read().nodes) == ["cpu-0", "scheduler"]
    assert project("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   cpu-1

Plan: 1 to add, 0 to change, 0 to destroy.
"""),
        "",
    )


def test_lost_scheduler_replaces_its_workers(project: Project) -> None:
    project.crash("scheduler")
    assert project("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   scheduler
        (VM VM is gone)
  -/+ cpu-[0-1]   (2)
        (the scheduler is replaced)

Plan: 3 to add, 0 to change, 2 to destroy.
"""),
        "",
    )


def test_unknown_vm_is_adopted_if_its_name_is_free(project: Project) -> None:
    project.launch("cpu-2")
    assert project("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -   cpu-2
        (count 3 -> 2)

Plan: 0 to add, 0 to change, 1 to destroy.
"""),
        snapshot("""\

Warning: found VMs that were not in the state: cpu-2
  planapply launched them for this cluster; an apply adopts them into the state.
"""),
    )
    assert project.apply("--set", "workers.cpu.count=3") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Edited since the last apply: workers.cpu.count 2 -> 3

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\

Warning: found VMs that were not in the state: cpu-2
  planapply launched them for this cluster; an apply adopts them into the state.
"""),
    )
    assert sorted(read().nodes) == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]
    assert project.names() == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]


def test_unknown_vm_is_terminated_if_its_name_is_taken(project: Project) -> None:
    project.launch("cpu-0")
    assert project.names() == ["cpu-0", "cpu-0", "cpu-1", "scheduler"]
    assert project("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -   VM
        (duplicate VM for node cpu-0)

Plan: 0 to add, 0 to change, 1 to destroy.
"""),
        snapshot(""),
    )
    assert project.apply() == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -   VM
        (duplicate VM for node cpu-0)

Plan: 0 to add, 0 to change, 1 to destroy.

Apply complete: 0 added, 0 changed, 1 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot(""),
    )
    assert project.names() == ["cpu-0", "cpu-1", "scheduler"]


def test_vm_with_an_unknown_token_is_left_alone_unless_asked(project: Project) -> None:
    project.launch("cpu-2", is_known=False)
    assert project("plan", "--detailed-exitcode")[0] == 0
    assert project.apply("--set", "workers.cpu.count=3")[0] == 0
    assert project.names() == ["cpu-0", "cpu-1", "cpu-2", "cpu-2", "scheduler"]
    code, _, err = project("destroy", "--auto-approve")
    assert code == 1
    assert "that planapply did not launch" in " ".join(err.split())
    assert project.names() == ["cpu-2"]
    assert project("destroy", "--auto-approve", "--terminate-unknown")[0] == 0


def test_changed_tags_are_fixed_in_place(project: Project) -> None:
    edit('provider = "local"', 'tags = { team = "bio" }\nprovider = "local"')
    assert project.apply() == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  ~   scheduler
        tags.team   (unset) -> "bio"
  ~   cpu-[0-1]   (2)
        tags.team   (unset) -> "bio"

Plan: 0 to add, 3 to change, 0 to destroy.

Apply complete: 0 added, 3 changed, 0 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\
scheduler: updated (tags)
cpu-[0-1]: updated (tags)
"""),
    )
    vm = read().nodes["cpu-0"].vm
    project.provider.retag([vm], {"team": "geo"}, [])
    assert project("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  ~   cpu-0
        tags.team   "geo" -> "bio"

Plan: 0 to add, 1 to change, 0 to destroy.
"""),
        "",
    )
    assert project.apply() == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  ~   cpu-0
        tags.team   "geo" -> "bio"

Plan: 0 to add, 1 to change, 0 to destroy.

Apply complete: 0 added, 1 changed, 0 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("cpu-0: updated (tags)\n"),
    )
    assert read().nodes["cpu-0"].vm == vm
    assert {v.tags["team"] for v in project.environment.live_vms(read().lineage)} == {"bio"}


@pytest.mark.usefixtures("silent_scheduler")
def test_target(new_project: Project) -> None:
    assert new_project("plan", "--target", "cpu-1") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  +   scheduler
  +   cpu-1

Plan: 2 to add, 0 to change, 0 to destroy.
"""),
        snapshot(""),
    )
    assert new_project.apply("--target", "cpu-1")[0] == 0
    assert new_project.names() == ["cpu-1", "scheduler"]
    assert new_project("plan", "--target", "gpu") == (
        1,
        "",
        snapshot("""\
Error: there is no node 'gpu'
  Nodes: scheduler, cpu-[0-1]. Name a node, a group, or a range such as cpu-[0-3].
"""),
    )
    assert new_project("destroy", "--auto-approve", "--target", "cpu") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -   cpu-1

Plan: 0 to add, 0 to change, 1 to destroy.

Destroy complete: 1 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\

Warning: this plan terminates every worker: the results in their memory will be lost
  planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save
  them first; or change the cluster in several steps in which some workers stay, with --target.
cpu-1: terminating
cpu-1: terminated
"""),
    )
    assert new_project.names() == ["scheduler"]


@pytest.mark.usefixtures("silent_scheduler")
def test_replace(project: Project) -> None:
    before = {name: record.vm for name, record in read().nodes.items()}
    assert project.apply("--replace", "cpu-[0-1]") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -/+ cpu-[0-1]   (2)
        (requested with --replace)

Plan: 2 to add, 0 to change, 2 to destroy.

Apply complete: 2 added, 0 changed, 2 destroyed.

scheduler_address = tcp://ADDRESS
"""),
        snapshot("""\

Warning: this plan terminates every worker: the results in their memory will be lost
  planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save
  them first; or change the cluster in several steps in which some workers stay, with --target.
cpu-[0-1]: terminating
cpu-[0-1]: terminated
cpu-[0-1]: launching
cpu-[0-1]: launched
"""),
    )
    after = {name: record.vm for name, record in read().nodes.items()}
    assert {name for name in after if after[name] != before[name]} == {"cpu-0", "cpu-1"}
    assert project("plan", "--replace", "scheduler") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (local):

  -/+ scheduler
        (requested with --replace)
  -/+ cpu-[0-1]   (2)
        (the scheduler is replaced)

Plan: 3 to add, 0 to change, 3 to destroy.
"""),
        snapshot("""\

Warning: this plan terminates every worker: the results in their memory will be lost
  planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save
  them first.
"""),
    )


def test_protect(project: Project) -> None:
    edit('provider = "local"', 'protect = true\nprovider = "local"')
    assert project("plan", "--replace", "cpu-0") == (
        1,
        "",
        snapshot("""\
Error: cannot destroy or replace cpu-0: the cluster is protected
  To remove the protection, set `protect = false` under [cluster] and apply that first.
"""),
    )
    assert project.apply("--set", "workers.cpu.count=3")[0] == 0
    assert project.apply() == (
        1,
        "",
        snapshot("""\
Error: cannot destroy or replace cpu-2: the cluster is protected
  To remove the protection, set `protect = false` under [cluster] and apply that first.
"""),
    )
    assert project("destroy", "--auto-approve") == (
        1,
        "",
        snapshot("""\
Error: cannot destroy or replace scheduler, cpu-[0-2]: the cluster is protected
  To remove the protection, set `protect = false` under [cluster] and apply that first.
"""),
    )
    os.unlink("planapply.toml")
    assert project("destroy", "--auto-approve", "--state", STATE)[0] == 1
    assert project.names() == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]


def change(alter: Callable[[State], None]) -> None:
    store = open_store(STATE)
    state = store.read()
    assert state
    alter(state)
    state.serial += 1
    store.write(state)


def test_state_of_another_machine_is_refused(project: Project) -> None:
    change(lambda state: state.cloud.update(host="elsewhere"))
    for command in (
        ["plan"],
        ["apply", "--auto-approve"],
        ["destroy", "--auto-approve"],
        ["status"],
    ):
        code, out, err = project(*command)
        said = " ".join(err.split()).replace(os.uname().nodename, "HERE")
        assert (code, out, said) == (
            1,
            "",
            "Error: the state of cluster 'demo' belongs to another cloud host is HERE, but the state was "
            "made with elsewhere. Use the account, region, or machine that it was made with.",
        )
    assert len(project.names()) == 3


def test_cluster_is_created_again_with_the_same_state(project: Project) -> None:
    assert project("destroy", "--auto-approve")[0] == 0
    lineage, serial = read().lineage, read().serial
    assert project.names() == []
    assert project.apply()[0] == 0
    assert read().lineage == lineage
    assert read().serial > serial
    assert project.names() == ["cpu-0", "cpu-1", "scheduler"]
