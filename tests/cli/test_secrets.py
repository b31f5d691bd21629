"""Secrets that planapply reads where it runs: only a launch needs them, and only a node gets them."""

import json
from pathlib import Path

import pytest
from cli.commands import SPEC, Run
from fake_provider import FakeCloud
from inline_snapshot import snapshot

from planapply.provider import LaunchRequest
from planapply.store import open_store

SECRET, ROTATED = "tiger-secret-value", "tiger-other-value"
WITH_SECRET = (
    SPEC.replace("count = 3", "min = 2\nmax = 5")
    + '\n[environment]\nenv = { TOKEN = "env:SOURCE", PLAIN = "$TOKEN" }\n'
)


@pytest.fixture(autouse=True)
def spec(cloud: FakeCloud, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SOURCE", raising=False)
    (folder / "planapply.toml").write_text(WITH_SECRET)
    return folder / "planapply.toml"


def requests(cloud: FakeCloud) -> list[LaunchRequest]:
    return [request for request, _, _ in cloud._answers.values()]


def assert_nowhere(folder: Path, *secrets: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert not any(secret in path.read_text() for secret in secrets), path


def test_only_a_launch_needs_the_variable(
    run: Run, cloud: FakeCloud, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("plan", "--out", "saved.plan")
    assert (result.code, result.err) == (
        0,
        snapshot("""\

Note: environment variable SOURCE is not set here
  The plan does not need it, but a launch does: set it where you apply.

Saved the plan. To apply it, run `planapply apply saved.plan`.
"""),
    )
    for command in (
        ["apply", "--auto-approve"],
        ["apply", "saved.plan"],
        ["apply", "--auto-approve", "--no-refresh"],
    ):
        refused = run(*command, "--no-wait")
        assert (refused.code, refused.err.partition("Error: ")[2]) == (
            1,
            snapshot("""\
cannot launch nodes: environment variable SOURCE is not set
  The nodes get it by `env` under [environment]. Set it where planapply runs; an empty value counts
  as not set.
"""),
        )
    monkeypatch.setenv("SOURCE", "")
    assert run("apply", "--auto-approve", "--no-wait").code == 1
    assert (cloud.calls["launch"], cloud.calls["prepare"]) == (0, 0)
    assert not (folder / "planapply.state.json").exists()

    monkeypatch.setenv("SOURCE", SECRET)
    assert run("apply", "saved.plan", "--no-wait").code == 0
    for request in requests(cloud):
        for boot in request.boots:
            assert boot.secret_env == {"TOKEN": SECRET}
            assert "TOKEN" not in boot.env
            assert SECRET not in repr(boot) + repr(request)
        assert SECRET not in json.dumps(dict(request.tags))
    assert_nowhere(folder, SECRET)
    state = open_store("planapply.state.json").read()
    assert state is not None
    kept = {json.dumps(record.secrets) for record in state.nodes.values()}
    assert len(kept) == 1
    assert list(json.loads(kept.pop())) == ["TOKEN"]
    assert len(state.secret_salt) == 32

    monkeypatch.delenv("SOURCE")
    assert run("plan") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 3.10 USD/h (list prices of 2025-03-02)
Elastic: cpu has 2 nodes (min 2, max 5); its size changes only through `scale` and `adapt`.
"""),
        "",
    )
    assert run("status").code == 0
    refused = run("scale", "cpu=3", "--auto-approve", "--no-wait")
    assert (refused.code, refused.err.partition("Error: ")[2]) == (
        1,
        snapshot("""\
cannot launch nodes: environment variable SOURCE is not set
  The nodes get it by `env` under [environment]. Set it where planapply runs; an empty value counts
  as not set.
"""),
    )
    assert run("scale", "cpu=2", "--auto-approve", "--no-wait").code == 0
    assert run("destroy", "--auto-approve").code == 0
    assert cloud.live_vms() == []


def test_changed_value_is_a_note_and_replace_sends_it(
    run: Run, cloud: FakeCloud, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE", SECRET)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    assert "SOURCE" not in run("plan").err
    assert "TOKEN" not in run("plan").err
    monkeypatch.setenv("SOURCE", ROTATED)
    assert run("plan", "--detailed-exitcode") == (
        0,
        snapshot("""\
No changes. Cluster "demo" matches its spec.
Cost: 3.10 USD/h (list prices of 2025-03-02)
Elastic: cpu has 2 nodes (min 2, max 5); its size changes only through `scale` and `adapt`.
"""),
        snapshot("""\

Note: the value of TOKEN has changed since scheduler, cpu-[0-1] were launched; `--replace` sends it
  For example: `planapply apply --replace 'cpu-[0-1]'`. Replacing the scheduler replaces every node.
"""),
    )
    arguments = ("--auto-approve", "--no-wait", "--no-retire")
    assert run("apply", "--replace", "cpu-0", *arguments).code == 0
    assert [boot.secret_env for boot in requests(cloud)[-1].boots] == [{"TOKEN": ROTATED}]
    assert run("plan").err == snapshot("""\

Note: the value of TOKEN has changed since scheduler, cpu-1 were launched; `--replace` sends it
  For example: `planapply apply --replace cpu-1`. Replacing the scheduler replaces every node.
""")
    assert_nowhere(folder, SECRET, ROTATED)


def test_another_variable_replaces(run: Run, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE", SECRET)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    spec.write_text(WITH_SECRET.replace("env:SOURCE", "env:OTHER"))
    assert run("plan") == (
        0,
        snapshot("""\
planapply will change cluster "demo" (fake, mars):

  -/+ scheduler         small
        environment.env.TOKEN   "env:SOURCE" -> "env:OTHER"   (forces replacement)
  -/+ cpu-[0-1]   (2)   large
        environment.env.TOKEN   "env:SOURCE" -> "env:OTHER"   (forces replacement)

Plan: 3 to add, 0 to change, 3 to destroy.
Cost: 3.10 USD/h (list prices of 2025-03-02)
Elastic: cpu has 2 nodes (min 2, max 5); its size changes only through `scale` and `adapt`.
"""),
        snapshot("""\

Warning: this plan terminates every worker: the results in their memory will be lost
  planapply cannot tell whether there are any: the scheduler does not answer. To keep them, save
  them first.

Note: environment variable OTHER is not set here
  The plan does not need it, but a launch does: set it where you apply.
"""),
    )


def test_refused_and_warned_of(run: Run, spec: Path) -> None:
    spec.write_text(
        SPEC
        + """
[environment.env]
A = "env:not a name"
B = "ssm:/path"
C = "secretsmanager:NAME"
https_proxy = "env:PROXY"
"""
    )
    assert run("validate") == (
        1,
        "",
        snapshot("""\
Error: `A` does not name an environment variable after `env:`
  --> planapply.toml:16:1
   |
16 | A = "env:not a name"
   | ^
  Write A = "env:NAME": planapply reads the environment variable NAME when it launches.

Error: cannot read `B` from `ssm:`: this version reads secrets from `env:` only
  --> planapply.toml:17:1
   |
17 | B = "ssm:/path"
   | ^
  Write B = "env:NAME": planapply reads the environment variable NAME when it launches.

Error: cannot read `C` from `secretsmanager:`: this version reads secrets from `env:` only
  --> planapply.toml:18:1
   |
18 | C = "secretsmanager:NAME"
   | ^
  Write C = "env:NAME": planapply reads the environment variable NAME when it launches.

Error: `https_proxy` cannot be a secret: apt and Docker need it where every user of the node can
read it
  --> planapply.toml:19:1
   |
19 | https_proxy = "env:PROXY"
   | ^^^^^^^^^^^
  Write the URL of the proxy, without a password.
"""),
    )
    spec.write_text(
        SPEC
        + """
[environment.env]
API_TOKEN = "tiger-token"
DATABASE = "postgres://me:tiger-db@db/x"
OMP_NUM_THREADS = "1"
HAS_TOKEN = "true"
DB_PASSWORD = "env:DB_PASSWORD"
"""
    )
    result = run("validate")
    assert (result.code, result.err) == (
        0,
        snapshot("""\
Warning: `API_TOKEN` looks like a credential, and its value is in the spec, the state, and saved
plans
  --> planapply.toml:16:1
   |
16 | API_TOKEN = …
   | ^^^^^^^^^
  Write API_TOKEN = "env:API_TOKEN", and set API_TOKEN where planapply runs.

Warning: `DATABASE` looks like a credential, and its value is in the spec, the state, and saved
plans
  --> planapply.toml:17:1
   |
17 | DATABASE = …
   | ^^^^^^^^
  Write DATABASE = "env:DATABASE", and set DATABASE where planapply runs.
"""),
    )
    assert "tiger" not in result.out


def test_an_error_that_quotes_the_value_is_masked(
    run: Run, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud's SDK may print what it has sent; the name of the variable says nothing about it."""
    monkeypatch.setenv("SOURCE", SECRET)

    def fail(*_: object) -> None:
        raise RuntimeError(f"sent {SECRET}")

    monkeypatch.setattr("planapply.ops.apply.execute_plan", fail)
    result = run("apply", "--auto-approve", "--no-wait")
    assert result.code == 1
    assert SECRET not in result.out + result.err
    assert "sent …" in result.err


def test_shown_state_has_no_digest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest would allow guesses at a short secret, and `show --json` is for people who may only look."""
    monkeypatch.setenv("SOURCE", SECRET)
    assert run("apply", "--auto-approve", "--no-wait").code == 0
    state = open_store("planapply.state.json").read()
    assert state is not None
    kept = {state.secret_salt, *state.nodes["cpu-0"].secrets.values()}
    assert all(kept)
    for command in (["show"], ["show", "--json"], ["state", "show", "cpu-0"], ["status", "--json"]):
        shown = run(*command)
        assert not any(text in shown.out for text in kept), command
    assert not any(text in run("state", "show", "cpu-0", "--json").out for text in kept)
    assert not any(text in repr(state) for text in kept)
