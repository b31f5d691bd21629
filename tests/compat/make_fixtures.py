"""Make the files in `fixtures`: clusters that an earlier planapply has applied.

They were made once, by the code of commit d24ed7d (version 0.1.0, formats 1), in a checkout of it
with a venv of its own, from this repository's folder `tests`:

    PYTHONPATH=/path/to/d24ed7d/tests:. /path/to/d24ed7d/.venv/bin/python -m compat.make_fixtures

Never make them again with later code, which would prove nothing: a later format gets files of its
own. Each folder of `fixtures` has a spec, the state at some moments (with its lock, if it was
locked then), saved plans, and the calls that made the cloud of that moment (see `compat.replay`)
or the orders with which local VMs were started. `keeper.txt` is the program that runs a local VM,
`providers/planapply_local/vm.py` of that commit.
"""

import contextlib
import io
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from compat.replay import EPOCH, REGION, clock, in_sequence
from lab.honest import Cloud, mutates, recognise, serve  # as they were called at that commit

from planapply.cli import main

FIXTURES = Path(__file__).parent / "fixtures"
STATE = "planapply.state.json"
APPLY = ("apply", "--auto-approve", "--no-wait", "--parallelism", "1")


def run(*arguments: str, code: int = 0) -> str:
    """One command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        got = main(arguments)
    print(f"$ planapply {' '.join(arguments)}\n{out.getvalue()}{err.getvalue()}")
    assert got == code, (arguments, got)
    return out.getvalue()


class Recorder(Cloud):
    """A cloud that keeps the calls that change it, and the state as it is at some of them."""

    wait: Callable[[float], None]
    """Let that many seconds pass for planapply and the cloud."""

    def begin(self, folder: Path, read: Callable[[], dict[str, bytes]]) -> None:
        """Keep what `read` gives, by file name, in `folder`."""
        self.folder, self.read = folder, read
        self.made: list[dict[str, Any]] = []
        self.counted: dict[str, int] = {}
        self.moments: dict[str, Any] = {}
        self.keep_at: dict[tuple[str, int, str], str] = {}

    def keep(self, name: str) -> None:
        """Keep this moment."""
        files = self.read()
        for suffix, data in files.items():
            (self.folder / f"{name}.{suffix}").write_bytes(data)
        self.moments[name] = {"calls": len(self.made)}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"].startswith("/_lab/"):
            return super().__call__(environ, start_response)
        service, _, action, params = recognise(environ, self.settings.region)
        if service != "ec2" or not mutates(action) or "DryRun" in params:
            return super().__call__(environ, start_response)
        number = self.counted[action] = self.counted.get(action, 0) + 1
        self._at(action, number, "before")
        answer = super().__call__(environ, start_response)
        call = next(call for call in reversed(self.calls) if call.params == params)
        self.made.append({"params": params, "outcome": call.outcome})
        self._at(action, number, "after")
        return answer

    def _at(self, action: str, number: int, when: str) -> None:
        print(f"  {when} {action} {number}")
        if name := self.keep_at.pop((action, number, when), None):
            self.keep(name)

    def end(self) -> None:
        """Write the calls."""
        assert not self.keep_at, self.keep_at
        document = {
            "capacity": self.settings.capacity,
            "moments": self.moments,
            "calls": self.made,
        }
        (self.folder / "calls.json").write_text(json.dumps(document, indent=1) + "\n")


@contextlib.contextmanager
def account(name: str, bucket: bool = False, **settings: Any) -> Iterator[Recorder]:
    """Serve an empty account for the cluster `name`; its clock moves when planapply waits."""
    home = tempfile.TemporaryDirectory()
    with home, serve(Recorder(**settings)) as cloud, in_sequence(), contextlib.ExitStack() as stack:
        assert isinstance(cloud, Recorder)
        folder = Path(home.name)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XDG_", "AWS_"))}
        port = cloud.url.rpartition(":")[2]
        env = own | cloud.env | {"HOME": home.name, "COLUMNS": "100", "LAB_PORT": port}
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(contextlib.chdir(folder))
        cloud.wait = stack.enter_context(clock(cloud.advance, EPOCH.timestamp()))
        cloud.freeze()
        kept = FIXTURES / name
        (folder / "planapply.toml").write_bytes((kept / "planapply.toml").read_bytes())

        def read() -> dict[str, bytes]:
            if bucket:
                return from_bucket()
            paths = {"state.json": folder / STATE, "lock": folder / f"{STATE}.lock"}
            return {suffix: p.read_bytes() for suffix, p in paths.items() if p.exists()}

        cloud.begin(kept, read)
        yield cloud
        cloud.end()


def from_bucket() -> dict[str, bytes]:
    """Return the contents of the bucket."""
    s3: Any = boto3.client("s3")
    found = s3.list_objects_v2(Bucket="lab-states").get("Contents", [])
    names = {"plain.json": "state.json", "plain.json.lock": "lock"}
    return {
        names[o["Key"]]: s3.get_object(Bucket="lab-states", Key=o["Key"])["Body"].read()
        for o in found
    }


def edit(old: str, new: str) -> None:
    """Change the spec."""
    path = Path("planapply.toml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def plan(cloud: Recorder, name: str, *arguments: str) -> None:
    """Save a plan, and keep it with its spec where that is another one."""
    run("plan", "--out", "plan", *arguments)
    (cloud.folder / f"{name}.plan.json").write_bytes(Path("plan").read_bytes())
    if Path("planapply.toml").read_bytes() != (cloud.folder / "planapply.toml").read_bytes():
        (cloud.folder / f"{name}.toml").write_bytes(Path("planapply.toml").read_bytes())


def ec2_full() -> None:
    """Keep a cluster with TLS, spot VMs, an elastic group, pins, changed tags, and killed commands."""
    with account("ec2-full", capacity={"m6i.large/eu-west-1a/spot": 2}) as cloud:
        ec2: Any = boto3.client("ec2")
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGcyv5irROSI0o1LFb3houKrKj9dRGDOVF21SbRIKkb/ laptop"
        ec2.import_key_pair(KeyName="laptop", PublicKeyMaterial=key.encode())
        final = Path("planapply.toml").read_text()
        edit('team = "bio"', 'team = "old"')
        plan(cloud, "first")
        cloud.moments["first"] = {"calls": len(cloud.made)}
        cloud.keep_at = {
            ("CreateSecurityGroup", 1, "before"): "group-asked",
            ("CreateSecurityGroup", 1, "after"): "group-made",
            ("RunInstances", 1, "before"): "scheduler-asked",
            ("RunInstances", 1, "after"): "scheduler-made",
            ("RunInstances", 2, "before"): "workers-asked",
            ("RunInstances", 4, "after"): "workers-made",
        }
        run(*APPLY)
        # A lost elastic node does not come back: the next has the next number.
        [burst] = [vm["id"] for vm in cloud.instances() if vm["tags"]["planapply:group"] == "burst"]
        ec2.terminate_instances(InstanceIds=[burst])
        cloud.wait(100.0)
        Path("planapply.toml").write_text(final)
        run(*APPLY)
        run("allow", "198.51.100.0/24")
        run("plan", "--detailed-exitcode")
        cloud.keep("applied")
        plan(cloud, "destroy", "--destroy")
        plan(cloud, "target", "--target", "cpu-[0..1]", "--replace", "cpu-1")
        plan(cloud, "set", "--set", "workers.cpu.count=3")
        edit("nthreads = 2", "nthreads = 1")
        edit('stage = "test"', 'stage = "live"')
        edit("min = 1", "min = 2")
        plan(cloud, "changed")
        Path("planapply.toml").write_text(final)
        cpu = next(vm["id"] for vm in cloud.instances() if vm["tags"]["planapply:group"] == "cpu")
        ec2.terminate_instances(InstanceIds=[cpu])
        cloud.wait(100.0)
        plan(cloud, "refresh-only", "--refresh-only")
        cloud.keep("lost")
        run(*APPLY)
        number = cloud.counted["TerminateInstances"]
        cloud.keep_at = {
            ("TerminateInstances", number + 1, "before"): "ending-asked",
            ("TerminateInstances", number + 1, "after"): "ending-begun",
            ("DeleteSecurityGroup", 1, "before"): "group-left",
        }
        run("destroy", "--auto-approve", "--parallelism", "1")
        cloud.keep("destroyed")


def ec2_plain() -> None:
    """Keep a cluster with a state in a bucket, `protect`, a container, and no TLS."""
    with account("ec2-plain", bucket=True) as cloud:
        s3: Any = boto3.client("s3")
        where = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket="lab-states", CreateBucketConfiguration=where)
        cloud.keep_at = {("RunInstances", 2, "after"): "workers-made"}
        run(*APPLY)
        run("plan", "--detailed-exitcode")
        cloud.keep("applied")
        edit("protect = true", "protect = false")
        edit("count = 1", "count = 2")
        plan(cloud, "changed")


def libcloud_ec2() -> None:
    """Keep a cluster that was launched through Libcloud, with one VM for each call."""
    with account("libcloud-ec2") as cloud:
        cloud.keep_at = {("RunInstances", 2, "after"): "worker-made"}
        run(*APPLY)
        run("plan", "--detailed-exitcode")
        cloud.keep("applied")
        edit("count = 2", "count = 3")
        edit('stage = "test"', 'stage = "live"')
        plan(cloud, "changed")
        run("destroy", "--auto-approve", "--parallelism", "1")
        cloud.keep("destroyed")


def local(name: str) -> None:
    """Keep a local cluster, and the orders with which its VMs were started."""
    from planapply_local import start

    folder = FIXTURES / name
    orders: list[dict[str, Any]] = []

    class Subprocess:
        """`subprocess` for `planapply_local.start`, which keeps the orders of the VMs."""

        DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE

        @staticmethod
        def run(argv: list[str], **how: Any) -> "subprocess.CompletedProcess[bytes]":
            order = json.loads(how["input"])
            own = {k: v for k, v in order["env"].items() if os.environ.get(k) != v}
            keeper = {k: v for k, v in how["env"].items() if os.environ.get(k) != v}
            kept = {k: v for k, v in order.items() if k not in ("lock", "psutil")}
            kept["argv"] = ["python", *order["argv"][1:]]
            orders.append({"order": {**kept, "env": own}, "keeper": keeper})
            return subprocess.run(argv, **how)

    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "XDG_", "PYTHON"))}
        env = {**own, "HOME": home, "COLUMNS": "100"}
        stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
        stack.enter_context(mock.patch.object(start, "subprocess", Subprocess))
        stack.enter_context(contextlib.chdir(home))
        Path("planapply.toml").write_bytes((folder / "planapply.toml").read_bytes())

        def keep(moment: str) -> None:
            for suffix, file in {"state.json": STATE, "lock": f"{STATE}.lock"}.items():
                if Path(file).exists():
                    (folder / f"{moment}.{suffix}").write_bytes(Path(file).read_bytes())

        run_one = Subprocess.run

        def run_and_keep(argv: list[str], **how: Any) -> Any:
            done = run_one(argv, **how)
            if len(orders) == 2:
                keep("workers-made")
            return done

        Subprocess.run = run_and_keep  # type: ignore[method-assign]
        run("apply", "--auto-approve", "--parallelism", "1")
        run("plan", "--detailed-exitcode")
        keep("applied")
        state = json.loads((folder / "applied.state.json").read_text())
        run("destroy", "--auto-approve")
        # What another machine, user or run has otherwise; the tests put their own in place.
        own_values = {
            "name": state["cluster"],
            "lineage": state["lineage"],
            "tokens": sorted({node["batch"] for node in state["nodes"].values()}),
            "port": str(state["nodes"]["scheduler"]["port"]),
            "home": home,
            "host": platform.node(),
            "user": str(os.getuid()),
        }
        document = {"own": own_values, "orders": orders}
        (folder / "orders.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    ec2_full()
    ec2_plain()
    libcloud_ec2()
    local("local-plain")
    local("local-tls")
