"""A cluster's whole life: everything that it prints and writes is searched for secrets."""

import base64
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from cli.commands import Run
from crash.forkserver import shared_server
from fake_provider import FakeCloud
from planapply_local.provider import LocalProvider
from planapply_local.supervisor import find_processes

from planapply.model.node import TAG_CLUSTER

SPEC = """\
[cluster]
name = "NAME"
security = "tls"

[environment]
env = { API_TOKEN = "tiger-token", DB_PASSWORD = "tiger pass/word", DB = "pg://me:tiger-db@db/x", FROM_HERE = "env:NODE_VALUE" }
setup = ["docker login -u me -p tiger-login"]

[scheduler]
options = { dashboard = false }

[workers.cpu]
count = 1
options = { nthreads = 1, memory_limit = "1 GiB" }
"""
SECRETS = ["tiger-token", "tiger pass/word", "tiger-db", "tiger-login", "tiger-login-2"]
IN_ENVIRONMENT = {"AWS_SECRET_ACCESS_KEY": "tiger-aws-key", "OS_PASSWORD": "tiger-os-password"}
NODE_VALUES = ["tiger-only-on-nodes", "tiger-only-on-new-nodes"]
"""Values of `env:NODE_VALUE`: in no file at all, not even the private ones."""
PRIVATE = ("planapply.toml", "planapply.state.json", "copy.json", "saved.plan")
"""Files that docs/security.md names: the spec, states, and saved plans."""


def forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), encoded, json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def leaked(text: str, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if any(form in text for form in forms(secret))]


def test_search_finds_every_form() -> None:
    for secret in SECRETS:
        for form in forms(secret):
            assert leaked(f"a {form} b", SECRETS)


@pytest.fixture
def name(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The name of a cluster that no other test uses; its processes are stopped after the test."""
    name = f"leaks-{os.getpid()}-{abs(hash(str(tmp_path)))}"
    yield name
    provider = LocalProvider()
    if left := [vm.id for vm in provider.find({TAG_CLUSTER: name})]:
        provider.terminate(left)
        provider.terminate(left)
    assert left == []


@pytest.mark.slow
def test_local_cluster_leaks_nothing(
    name: str, environment: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    spec = folder / "planapply.toml"
    spec.write_text(SPEC.replace("NAME", name))
    secrets = [*SECRETS, *IN_ENVIRONMENT.values(), *NODE_VALUES]
    env = {**environment, **IN_ENVIRONMENT}
    printed: dict[str, str] = {}

    def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        done = shared_server().run(*arguments, cwd=folder, env=env)
        assert done.code in codes, done.out + done.err
        printed[" ".join(arguments)] = done.out + done.err
        assert leaked(done.out + done.err, secrets) == [], arguments
        return done.out

    def check_files() -> None:
        for path in [p for p in tmp_path.rglob("*") if p.is_file() and not p.is_symlink()]:
            found = leaked(path.read_bytes().decode(errors="replace"), secrets)
            assert not {*found} & {*NODE_VALUES}, path
            if path == spec or not found:
                continue
            assert path.name in PRIVATE or "tls" in path.parts or path.suffix == ".pem", path
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path

    run("init", "-f", "starter.toml")
    run("validate")
    run("plan")
    run("plan", "--json")
    run("plan", "--out", "saved.plan")
    run("show", "saved.plan")
    run("show", "saved.plan", "--json")
    run("apply", "saved.plan", codes=(1,))  # NODE_VALUE is missing
    assert not (folder / "planapply.state.json").exists()
    env["NODE_VALUE"] = NODE_VALUES[0]
    run("apply", "saved.plan")
    key = json.loads((folder / "planapply.state.json").read_text())["tls"]["key"]
    secrets += key.splitlines()[1:-1]
    for command in (
        *(["status"], ["show"], ["state", "list"], ["state", "show", "cpu-0"], ["output"]),
        ["state", "pull", "copy.json"],
        ["logs", "scheduler"],
        ["logs", "cpu-0"],
        ["env"],
        ["list"],
        ["history"],
        ["watch", "--once"],
    ):
        run(*command)
        if command[0] not in ("logs", "env"):
            run(*command, "--json")
    check_files()
    processes = find_processes()
    assert {e["PLANAPPLY_VM"] for found in processes.values() for _, e in found} >= {
        node["vm"] for node in json.loads(run("show", "--json"))["nodes"].values()
    }
    for found in processes.values():
        for process, _ in found:
            with suppress(psutil.Error):  # it may have exited
                assert leaked(" ".join(process.cmdline()), secrets) == []
    dask_environments = [
        variables
        for found in processes.values()
        for process, variables in found
        if variables.get("PLANAPPLY_CLUSTER") == name and "PLANAPPLY_NODE" in variables
    ]
    assert {e["PLANAPPLY_NODE"]: e["FROM_HERE"] for e in dask_environments} == {
        "scheduler": NODE_VALUES[0],
        "cpu-0": NODE_VALUES[0],
    }
    env["NODE_VALUE"] = NODE_VALUES[1]
    assert "`--replace` sends it" in run("plan") + printed["plan"]
    # A rotated secret, an error on the same line, and one in an option.
    spec.write_text(spec.read_text().replace("tiger-token", "tiger-token-2"))
    secrets.append("tiger-token-2")
    assert "hidden value changed" in run("plan")
    run("plan", "--json")
    text = spec.read_text()
    spec.write_text(text.replace("env = {", "env = { N = 1,"))
    run("validate", codes=(1,))
    run("plan", "--json", codes=(1,))
    spec.write_text(text)
    run("validate", "--set", "environment.env.API_TOKEN=tiger-token-2", codes=(1,))
    run("apply", "--auto-approve", "--json", "--set", "workers.cpu.count=2")
    check_files()
    del env["NODE_VALUE"]
    run("plan")
    run("status", "--json")
    run("destroy", "--auto-approve")
    run("status", codes=(0, 1))
    check_files()
    assert [p for p in tmp_path.rglob("*.pem") if p.is_file()] == []
    assert len(printed) > 25


def test_plan_and_state_show_no_secret(
    run: Run, cloud: FakeCloud, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = [*SECRETS, *NODE_VALUES, "tiger-index", "tiger-git", "tiger-next"]
    spec = folder / "planapply.toml"
    base = spec.read_text()
    environment = SPEC.partition("[environment]")[2].partition("[scheduler]")[0]
    (folder / "requirements.txt").write_text(
        "dask\n--extra-index-url https://me:tiger-index@mirror/simple\n"
        "x @ git+https://tiger-git@github.com/a/b@v1\n"
    )
    text = f'{base}\n[environment]\nrequirements = "requirements.txt"\n{environment}'
    spec.write_text(text)

    def check(*arguments: str) -> str:
        result = run(*arguments)
        assert result.code == 0, result.err
        assert leaked(result.out + result.err, secrets) == [], arguments
        return result.out

    check("plan", "--json")
    monkeypatch.setenv("NODE_VALUE", NODE_VALUES[0])
    check("apply", "--auto-approve", "--no-wait")
    for path in folder.rglob("*"):
        assert not path.is_file() or leaked(path.read_text(), NODE_VALUES) == [], path
    for command in (["show"], ["state", "show", "cpu-0"]):
        check(*command)
        assert "(hidden)" in check(*command, "--json")
    for path in (spec, folder / "requirements.txt"):
        for old in ("tiger-index", "tiger-git", "tiger-login", "tiger-token", "tiger-db"):
            path.write_text(path.read_text().replace(old, f"{old}-next"))
    assert check("plan").count("hidden value changed") >= 4
    check("plan", "--out", "saved.plan")
    check("show", "saved.plan")
    changes = json.loads(check("show", "saved.plan", "--json"))["changes"]
    paths = {field["path"] for change in changes for field in change["fields"]}
    assert paths == {
        "environment.requirements",
        "environment.setup",
        "environment.env.API_TOKEN",
        "environment.env.DB",
    }
