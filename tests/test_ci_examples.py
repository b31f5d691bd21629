"""The commands of the workflows in examples/ci and of the pre-commit hook, on a cluster of this machine."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {
    name: yaml.safe_load((ROOT / f"examples/ci/{name}.yml").read_text())
    for name in ("planapply", "drift")
}
NUMBER, HEAD = "7", "abc123"
GH = """
import json, sys
arguments = sys.argv[1:]
path = "../github.json"
site = json.load(open(path))
site["calls"].append(" ".join(arguments[:3]))
def body():
    option = next(a for a in arguments if a.endswith(".md"))
    return open(option.removeprefix("body=@")).read()
match arguments:
    case ["api", "--paginate", url, *_]:
        print("\\n".join(str(i) for i, text in enumerate(site["comments"]) if text.startswith("<!-- planapply -->")))
    case ["api", "--silent", "--method", "PATCH", url, *_]:
        site["comments"][int(url.rpartition("/")[2])] = body()
    case ["api", "--silent", "--method", "POST", *_]:
        site["comments"].append(body())
    case ["api", url, *_] if url.endswith("/pulls"):
        print(site["merged"])
    case ["issue", "list", *_]:
        print("1" if site["issues"] else "")
    case ["issue", "edit", "1", *_]:
        site["issues"][0] = body()
    case ["issue", "create", *_]:
        site["issues"].append(body())
    case ["label", "create", *_]:
        pass
    case _:
        sys.exit(f"unexpected: {arguments}")
json.dump(site, open(path, "w"))
"""
AWS = """
import os, shutil, sys
source, target = (a.replace("s3://my-private-bucket", os.path.abspath("../bucket")) for a in sys.argv[-2:])
os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
shutil.copy(source, target)
"""
SPEC = """\
[cluster]
name = "ci-{pid}"

[scheduler]
options = {{ dashboard = false }}

[workers.cpu]
count = {count}
options = {{ nthreads = 1, memory_limit = "500 MB" }}
"""


class Runner:
    """A GitHub runner: one checkout, with `gh`, `aws`, and `pip` replaced."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.site = folder / "github.json"
        self.output = folder / "output"
        self.checkout.mkdir()
        self.set(calls=[], comments=["first!"], issues=[], merged="")
        bin = folder / "bin"
        bin.mkdir()
        for name, code in {"gh": GH, "aws": AWS, "pip": ""}.items():
            (bin / name).write_text(f"#!{sys.executable}\n{code}")
            (bin / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(
                [str(bin), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "HOME": str(folder),
            "GITHUB_REPOSITORY": "me/clusters",
            "GITHUB_SHA": "merged",
            "GITHUB_OUTPUT": str(self.output),
        }

    def set(self, **values: Any) -> None:
        self.site.write_text(json.dumps({**self.get(), **values}))

    def get(self) -> Any:
        return json.loads(self.site.read_text()) if self.site.exists() else {}

    def write(self, count: int) -> None:
        (self.checkout / "planapply.toml").write_text(SPEC.format(pid=os.getpid(), count=count))

    def run_job(self, workflow: str, job: str) -> "subprocess.CompletedProcess[str]":
        """Run the commands of a job until one fails; return the last one's result."""
        document = WORKFLOWS[workflow]
        contexts = {"github.event.number": NUMBER, "github.event.pull_request.head.sha": HEAD}
        found = None
        for step in document["jobs"][job]["steps"]:
            outputs = self.output.read_text() if self.output.exists() else ""
            if "run" not in step or (step.get("if") and "code=2\n" not in outputs):
                continue
            raw = {
                **document.get("env", {}),
                **document["jobs"][job].get("env", {}),
                **step.get("env", {}),
            }
            values = {
                k: re.sub(r"\$\{\{ (.*?) }}", lambda m: contexts.get(m[1], ""), v)
                for k, v in raw.items()
            }
            found = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.checkout,
                env={**self.environment, **values},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if found.returncode:
                break
        self.output.unlink(missing_ok=True)
        assert found is not None
        return found


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    if (runner.checkout / "planapply.state.json").exists():
        command = [sys.executable, "-m", "planapply", "destroy", "--auto-approve"]
        subprocess.run(
            command, cwd=runner.checkout, env=runner.environment, check=True, capture_output=True
        )


@pytest.mark.slow
def test_reviewed_plan_is_applied_and_drift_is_an_issue(runner: Runner) -> None:
    runner.write(count=1)
    assert runner.run_job("planapply", "validate").returncode == 0
    for number in (1, 2):  # a second push updates the comment
        runner.write(count=number)
        planned = runner.run_job("planapply", "plan")
        assert planned.returncode == 0, planned.stderr
        first, comment = runner.get()["comments"]
        assert first == "first!"
        assert f"**Plan:** {number + 1} to add" in comment
        assert comment.endswith("\nCommit abc123\n")

    # A push without a pull request, and a spec that is not the reviewed one: nothing is applied.
    assert "no plan was reviewed" in runner.run_job("planapply", "apply").stdout
    runner.set(merged=f"{NUMBER}/{HEAD}")
    runner.write(count=3)
    assert (
        "the plan file is stale: the spec has changed"
        in runner.run_job("planapply", "apply").stderr
    )
    assert not (runner.checkout / "planapply.state.json").exists()

    runner.write(count=2)
    applied = runner.run_job("planapply", "apply")
    assert "Apply complete: 3 added" in applied.stdout, applied.stderr

    assert runner.run_job("drift", "drift").returncode == 0
    assert runner.get()["issues"] == []
    for number in (1, 2):
        runner.write(count=2 + number)
        assert runner.run_job("drift", "drift").returncode == 0
        (issue,) = runner.get()["issues"]
        assert f"**Plan:** {number} to add" in issue
    (runner.checkout / "planapply.toml").write_text("[cluster]\n")
    assert runner.run_job("drift", "drift").returncode == 1
    assert runner.get()["issues"] == [issue]
    runner.write(count=2)


def test_workflows_are_safe_for_forks() -> None:
    for document in WORKFLOWS.values():
        triggers = document[True]  # YAML 1.1 reads the key `on` as true
        assert triggers.keys() <= {"pull_request", "push", "schedule", "workflow_dispatch"}
        assert document["permissions"] == {}
        for job in document["jobs"].values():
            for step in job["steps"]:
                # An expression in a script could contain one from a pull request.
                assert "${{" not in step.get("run", "")
                assert "artifact" not in step.get("uses", "")
                assert step.get("with", {}).get("persist-credentials") is not True
    jobs = WORKFLOWS["planapply"]["jobs"]
    assert jobs["validate"]["permissions"] == {"contents": "read"}
    assert all("aws" not in str(step) for step in jobs["validate"]["steps"])
    assert (
        jobs["plan"]["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    )
    assert jobs["apply"]["if"] == "github.event_name == 'push'"


def test_pre_commit_hook_checks_each_spec(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    specs = ["planapply.toml", "gpu/planapply.toml", "other/planapply.toml"]
    assert all(re.search(hook["files"], spec) for spec in specs)
    assert not re.search(hook["files"], "not-planapply.toml")
    for spec, text in zip(
        specs, ("[cluster]\nnme = 1\n", "[cluster]\nname = 'a'\n", ""), strict=True
    ):
        (tmp_path / spec).parent.mkdir(exist_ok=True)
        (tmp_path / spec).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*files: str) -> "subprocess.CompletedProcess[str]":
        command = [*shlex.split(hook["entry"]), *files]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )

    done = run(*specs)
    assert done.returncode == 1
    assert "the spec other/planapply.toml is empty" in done.stderr
    assert "--> planapply.toml:1:2" in done.stderr
    assert done.stdout == "Success! The spec gpu/planapply.toml is valid.\n"
    assert run(specs[1]).returncode == 0
