"""Commands that read a state: status, output, env, show, and unlock."""

import json
import os
import platform
import re
import shlex
import socketserver
import stat
import struct
import subprocess
import time
from pathlib import Path
from threading import Thread

import msgpack
import pytest
from cli.commands import AGE, COMMAND, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.fleet.tls import make_tls
from planapply.model.history import Spend
from planapply.model.state import Endpoint, State
from planapply.store import open_store
from planapply.store.lockinfo import LockInfo

STATE = "planapply.state.json"


@pytest.fixture
def applied(run: Run, cloud: FakeCloud) -> FakeCloud:
    """A cluster whose scheduler never answers."""
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    return cloud


def change(**values: object) -> State:
    store = open_store(STATE)
    state = store.read()
    assert state is not None
    for key, value in values.items():
        setattr(state, key, value)
    store.write(state)
    return state


def test_status_shows_the_vms_of_the_cloud(run: Run, applied: FakeCloud) -> None:
    applied.end_vm("i-0003")
    old = {"launched_at": time.time() - AGE}
    nodes = open_store(STATE).read().nodes  # type: ignore[union-attr]
    aged = {name: record.model_copy(update=old) for name, record in nodes.items()}
    change(nodes=aged, spend=Spend(until=old["launched_at"]))
    result = run("status")
    assert (result.code, re.sub(r"[0-9.]+ USD so far", "15.33 USD so far", result.out)) == (
        0,
        snapshot("""\
Cluster "demo" (fake): the scheduler does not answer

  NODE        STATUS    AGE          SIZE    ADDRESS     VM
  scheduler   running   3 h 20 min   small   127.0.0.1   i-0000
  cpu-0       running   3 h 20 min   large   127.0.0.2   i-0001
  cpu-1       running   3 h 20 min   large   127.0.0.3   i-0002
  cpu-2       gone      3 h 20 min   large   127.0.0.4   i-0003

Scheduler:  tcp://127.0.0.1:1
Cost:       3.10 USD/h, at most 15.33 USD so far (list prices of 2025-03-02)
Drift: cpu-2 has terminated, by itself (ttl, idle_timeout, or a failure) or outside of planapply.
See `planapply logs cpu-2`; run `planapply plan` to see what an apply would do.
"""),
    )
    found = json.loads(run("status", "--json").out)
    assert [(node["name"], node["status"], node["joined"]) for node in found["nodes"]] == snapshot(
        [
            ("scheduler", "running", None),
            ("cpu-0", "running", None),
            ("cpu-1", "running", None),
            ("cpu-2", "gone", None),
        ]
    )
    assert found["drift"] == [
        {"name": "cpu-2", "kind": "gone", "vm": "i-0003", "ended": "unknown", "fields": []}
    ]
    assert found["scheduler_answers"] is False
    assert found["usd_per_hour"] == 3.1
    assert found["usd_so_far"] == pytest.approx(4.6 * AGE / 3600, rel=0.01)
    assert (found["usd_so_far_at_least"], found["usd_so_far_at_most"]) == (False, True)


def test_status_of_an_empty_cluster(run: Run, applied: FakeCloud) -> None:
    run("destroy", "--auto-approve")
    result = run("status")
    assert (result.code, re.sub(r"[0-9.]+ USD so far", "0.00 USD so far", result.out)) == (
        0,
        snapshot("""\
Cluster "demo" (fake): no nodes

Cost:       0.00 USD/h, 0.00 USD so far
"""),
    )


def test_output(run: Run, applied: FakeCloud) -> None:
    where = Endpoint(
        private="tls://10.0.0.1:8786",
        public="tls://54.1.2.3:8786",
        dashboard="http://54.1.2.3:8787/status",
    )
    lineage = change(endpoint=where).lineage
    result = run("output")
    assert result == (0, result.out, "")
    assert result.out.replace(lineage, "…") == snapshot("""\
account                   = fake
cluster                   = demo
provider                  = fake
lineage                   = …
security                  = none
scheduler_address         = tls://54.1.2.3:8786
scheduler_address_private = tls://10.0.0.1:8786
scheduler_address_public  = tls://54.1.2.3:8786
dashboard_url             = http://54.1.2.3:8787/status
""")
    assert json.loads(run("output", "--json").out)["scheduler_address"] == "tls://54.1.2.3:8786"
    assert run("output", "dashboard_url") == (0, "http://54.1.2.3:8787/status\n", "")
    assert run("output", "dashboard_url", "--json").out == '"http://54.1.2.3:8787/status"\n'
    assert run("output", "dashbord") == (
        1,
        "",
        snapshot("""\
Error: there is no output 'dashbord'
  Outputs: account, cluster, provider, lineage, security, scheduler_address,
  scheduler_address_private, scheduler_address_public, dashboard_url.
"""),
    )
    change(endpoint=Endpoint(private="tcp://10.0.0.1:8786"))
    assert run("output", "scheduler_address") == (0, "tcp://10.0.0.1:8786\n", "")
    assert json.loads(run("output", "--json").out)["scheduler_address_public"] is None
    assert run("output", "dashboard_url").err == snapshot("""\
Error: the output 'dashboard_url' has no value
  It is known after an apply that waited for the scheduler (without --no-wait).
""")


def test_apply_restores_a_lost_scheduler_endpoint(run: Run, applied: FakeCloud) -> None:
    change(endpoint=None)
    assert run("output", "scheduler_address").code == 1
    assert run("apply", "--auto-approve", "--no-wait").out.startswith("No changes.")
    assert run("output", "scheduler_address") == (0, "tcp://127.0.0.1:1\n", "")


def test_output_and_env_need_a_scheduler(run: Run, applied: FakeCloud) -> None:
    change(endpoint=None)
    for command in ("output", "env"):
        result = run(command)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Error: cluster 'demo' has no scheduler\n")


def test_env_writes_the_key_for_this_user_only(run: Run, applied: FakeCloud) -> None:
    tls = make_tls("demo")
    state = change(tls=tls, endpoint=Endpoint(private="tls://10.0.0.1:8786"))
    result = run("env")
    folder = Path.home() / ".cache" / "planapply" / "tls" / state.lineage
    assert result == (
        0,
        f"""\
export DASK_SCHEDULER_ADDRESS=tls://10.0.0.1:8786
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE={folder}/certificate.pem
export DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT={folder}/certificate.pem
export DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY={folder}/key.pem
""",
        "",
    )
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name, content in (("certificate", tls.certificate), ("key", tls.key.get_secret_value())):
        file = folder / f"{name}.pem"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == content
    assert tls.key.get_secret_value() not in run("show").out + run("show", "--json").out
    run("destroy", "--auto-approve")
    assert not folder.exists()


def test_env_prints_no_path_that_is_not_the_path(
    run: Run, applied: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(tls=make_tls("demo"))
    monkeypatch.setenv("HOME", str(tmp_path / "a\x01b"))
    code, out, err = run("env")
    assert (code, out) == (1, "")
    said = " ".join(err.split())
    assert said.startswith("Error: cannot print the path of the TLS key: '")
    assert "a\\x01b" in said
    assert said.endswith(
        " has a control character Set HOME, or XDG_CACHE_HOME, to a folder without."
    )


def test_env_is_safe_for_a_shell(run: Run, applied: FakeCloud) -> None:
    address = "tcp://10.0.0.1:8786"
    change(endpoint=Endpoint(private=address))
    result = run("env")
    script = f'{result.out}printf %s "$DASK_SCHEDULER_ADDRESS"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == address
    state, text = Path("planapply.state.json"), Path("planapply.state.json").read_text()
    for forged in ("tcp://$(touch owned):1", "tcp://`id`:1", "tcp://h:1';id;'", ""):
        state.write_text(text.replace(address, forged))
        result = run("env")
        assert (result.code, result.out) == (1, "")
        assert "  endpoint.private: must be an address such as tls://10.0.0.5:8786\n" in result.err


class _Scheduler(socketserver.BaseRequestHandler):
    """Shakes hands as Dask does, and tells of a scheduler without workers."""

    def handle(self) -> None:
        for message in (
            {"compression": None, "python": (3, 11, 0), "pickle-protocol": 5},
            {"workers": {}, "services": {}},
        ):
            frame = msgpack.packb(message)
            self.request.sendall(struct.pack("<QQQ", 16 + len(frame), 1, len(frame)) + frame)
        self.request.recv(2**16)


def test_env_uses_the_reachable_address(run: Run, applied: FakeCloud) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Scheduler) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        private = f"tcp://127.0.0.1:{server.server_address[1]}"
        change(endpoint=Endpoint(private=private, public="tcp://127.0.0.1:1"))
        assert run("env").out.splitlines()[0] == f"export DASK_SCHEDULER_ADDRESS={private}"
        server.shutdown()
    assert run("env").out.splitlines()[0] == "export DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1:1"


def test_env_reports_an_unwritable_folder(
    run: Run, applied: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(tls=make_tls("demo"))
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.abspath("file"))
    result = run("env")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error: cannot write the TLS key to\n")


def test_env_writes_no_key_into_a_symlinked_folder(run: Run, applied: FakeCloud) -> None:
    state = change(tls=make_tls("demo"))
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    folder = Path.home() / ".cache" / "planapply" / "tls" / state.lineage
    folder.parent.mkdir(parents=True)
    folder.symlink_to(elsewhere.resolve())
    result = run("env")
    assert (result.code, result.out) == (1, "")
    assert "the folder belongs to another user" in " ".join(result.err.split())
    assert not list(elsewhere.iterdir())


def test_show(run: Run, applied: FakeCloud) -> None:
    result = run("show")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith('Cluster "demo" (fake, account fake)\nLineage ')
    document = json.loads(run("show", "--json").out)
    assert sorted(document["nodes"]) == ["cpu-0", "cpu-1", "cpu-2", "scheduler"]


@pytest.mark.parametrize("command", [("ssh",), ("state", "show")])
@pytest.mark.parametrize(
    ("name", "summary", "advice"),
    [
        ("cpu-[0-1]", "'cpu-[0-1]' is not a node, but 2 nodes", "Name one node, such as cpu-0."),
        ("cpu-[2-5]", "'cpu-[2-5]' is not a node, but 4 nodes", "Name one node, such as cpu-2."),
        ("cpu", "'cpu' is not a node, but 3 nodes", "Name one node, such as cpu-0."),
        ("cpu[0]", "'cpu[0]' is not a node", "Name one node, not a range such as cpu-[0-3]."),
        ("cpu-[1-0]", "'cpu-[1-0]' is not a node", "Name one node, not a range such as cpu-[0-1]."),
        ("gpu", "the state has no node 'gpu'", ""),
    ],
)
def test_one_node_must_be_named(
    run: Run, applied: FakeCloud, command: tuple[str, ...], name: str, summary: str, advice: str
) -> None:
    result = run(*command, name)
    text = " ".join(result.err.split())
    assert (result.code, text) == (
        1,
        f"Error: {summary} {f'{advice} ' if advice else ''}Nodes: scheduler, cpu-[0-2].",
    )


def test_unlock(run: Run, applied: FakeCloud) -> None:
    assert run("unlock", "1234") == (
        1,
        "",
        snapshot("""\
Error: cannot release the lock on the state planapply.state.json: it is not locked
  Nothing needs to be done.
"""),
    )
    info = LockInfo.of_this_process("12ab", "apply").model_copy(
        update={
            "host": "elsewhere",
            "who": "me@elsewhere",
            "pid": 7,
            "created": "2025-03-02T12:00:00+00:00",
        }
    )
    Path(f"{STATE}.lock").write_bytes(info.encode())
    assert run("unlock", "12ab") == (
        0,
        snapshot("Released lock 12ab of me@elsewhere (process 7).\n"),
        "",
    )
    assert not Path(f"{STATE}.lock").exists()


def test_closed_pipe_is_no_error(applied: FakeCloud, environment: dict[str, str]) -> None:
    command = f"{shlex.join(COMMAND)} show --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    shell = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=True
    )
    assert (shell.stdout, shell.stderr) == ("{0\n", "")


def test_closed_streams_are_no_error(applied: FakeCloud, environment: dict[str, str]) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        command = f"{shlex.join(COMMAND)} show {closed}"
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


def test_full_disk_is_an_error(applied: FakeCloud, environment: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "show"], env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: cannot write the output: No space left on device\n",
    )


def test_plan_warns_of_a_lock(run: Run, applied: FakeCloud) -> None:
    info = LockInfo(
        id="12ab",
        who="me@elsewhere",
        pid=7,
        host="elsewhere",
        purpose="apply",
        created="2026-03-02T09:30:00+00:00",
    )
    Path(f"{STATE}.lock").write_bytes(info.encode())
    result = run("plan")
    assert (result.code, result.err) == (
        0,
        snapshot("""\

Warning: the state is locked, so the plan may be outdated soon
  me@elsewhere (process 7) has held lock 12ab since 2026-03-02 09:30:00 UTC, for apply. Plan again
  when that process is done, or wait with --lock-timeout.
"""),
    )
    assert run("plan", "--detailed-exitcode", "--destroy").code == 2
    assert run("apply", "--lock-timeout", "0.1 s").err.partition("Error: ")[2] == snapshot("""\
the state planapply.state.json is still locked after 0.1 s
  me@elsewhere (process 7) has held lock 12ab since 2026-03-02 09:30:00 UTC, for apply.
  Wait longer with --lock-timeout; or release the lock, if that process no longer exists:
    planapply unlock 12ab --state planapply.state.json
""")
    Path(f"{STATE}.lock").unlink()
    Path(f"{STATE}.lock").mkdir()
    unreadable = run("plan")
    assert unreadable.code == 0
    assert unreadable.err.startswith(
        f"\nWarning: cannot read the lock of the state {STATE}\n  Not a regular file:"
    )


def test_local_nodes_are_processes_of_this_machine(
    run: Run, applied: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(STATE)
    identity = {"host": platform.node(), "user": str(os.getuid())}
    document = json.loads(path.read_text()) | {"provider": "local", "cloud": identity}
    path.write_text(json.dumps(document | {"settings": {}}))
    assert run("ssh", "cpu-0", "--state", STATE).err == snapshot("""\
Error: cannot log in to cpu-0: the provider 'local' does not support it
  Nodes of `local` are processes on this machine.
""")
    assert run("allow", "--state", STATE).err == snapshot("""\
Error: cannot allow a network: cluster 'demo' has no firewall managed by planapply
  Nodes of `local` are processes on this machine.
""")
