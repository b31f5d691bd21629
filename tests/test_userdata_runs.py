"""The script that turns a bare VM into a node, run by bash with replacements for its commands."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot

from planapply.bootstrap import extract_node_lines
from planapply.bootstrap.userdata import build_script
from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import Environment, NodeConfig
from planapply.model.state import TLS

ADDRESS = "tls://10.0.0.5:8786"
PAIR = TLS(certificate="CERTIFICATE\n", key="KEY\n")  # type: ignore[arg-type]
WORKER = NodeConfig(group="cpu", cls="distributed.Nanny", security="tls")
SCHEDULER = NodeConfig(group="scheduler", cls="distributed.Scheduler")
MANY = [f"cpu-{i}" for i in range(100)]

OWN_PATHS = re.compile(r"/(etc/|opt/|var/lib/|root\b)")


class Machine:
    """A VM on which bash runs a script that writes below one folder only, and has no other commands."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.commands = folder / "bin"
        self.log = folder / "log"
        self.commands.mkdir()
        for name in ("etc/systemd/system", "etc/apt/apt.conf.d", "var/lib/apt/lists", "root"):
            (self.root / name).mkdir(parents=True)
        for name in (
            *("bash", "env", "cat", "chmod", "mkdir", "find", "date", "nproc", "touch", "true"),
            "false",
        ):
            (self.commands / name).symlink_to(str(shutil.which(name)))
        self.command("systemctl", "exit 0")

    def command(self, name: str, does: str) -> None:
        """Add a command that logs its arguments, one per line, and then runs `body`."""
        path = self.commands / name
        path.write_text(
            f"#!/bin/bash\n{{ printf '%s' {name}; printf ' <%s>' \"$@\"; echo; }} >>{self.log}\n{does}\n"
        )
        path.chmod(0o755)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        text = OWN_PATHS.sub(lambda path: f"{self.root}{path[0]}", text)
        text = text.replace("#!/bin/bash", f"#!{self.commands}/bash")
        return subprocess.run(
            [str(self.commands / "bash"), "-c", text],
            env={"PATH": str(self.commands)},
            capture_output=True,
            text=True,
        )

    def node(self) -> subprocess.CompletedProcess[str]:
        """Run the program that the unit starts."""
        return subprocess.run(
            [str(self.root / "etc/planapply/run")],
            env={"PATH": str(self.commands)},
            capture_output=True,
            text=True,
        )

    def logged(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.replace(str(self.root), "").replace(str(self.commands), "") for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def python(machine: Machine, index: int = 2) -> None:
    """Add a Python that stores its `dask spec` arguments."""
    env, spec = machine.root / "env", machine.root / "spec"
    keep = f"env -0 >{env}; printf '%s' \"${{!#}}\" >{spec}"
    own = "*getsockname*) echo 10.0.0.7"
    does = f'case "$*" in *ami-launch-index*) echo {index};; {own};; *dask_spec*) {keep};; esac'
    machine.command("python3", does)


def with_environment(config: NodeConfig, **environment: Any) -> NodeConfig:
    return config.model_copy(update={"environment": Environment(**environment)})


def environment_of(machine: Machine) -> dict[str, str]:
    pairs = (machine.root / "env").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_vm_finds_its_name_and_runs_its_workers(machine: Machine) -> None:
    python(machine)
    config = WORKER.model_copy(
        update={"processes": 2, "options": {"nthreads": 3, "name_": "@NODE@"}}
    )
    done = machine.run(build_script(config, MANY, ADDRESS, PAIR, cluster="genomics"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "planapply: this is cpu-2\n"
    assert machine.node().returncode == 0
    spec = json.loads((machine.root / "spec").read_text())
    assert spec == {
        f"cpu-2-{i}": {
            "cls": "distributed.Nanny",
            "opts": {
                "death_timeout": 600,
                "memory_limit": 0.5,
                "nthreads": 3,
                "name_": "@NODE@",
                "name": f"cpu-2-{i}",
                "host": "10.0.0.7",
            },
        }
        for i in range(2)
    }
    environment = environment_of(machine)
    assert environment["PLANAPPLY_NODE"] == "cpu-2"
    folder = machine.root / "etc/planapply"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, text in (("tls-certificate.pem", "CERTIFICATE\n"), ("tls-key.pem", "KEY\n")):
        assert (folder / name).read_text() == text
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert environment["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"] == str(folder / "tls-key.pem")
    assert machine.logged()[-3:] == snapshot(
        [
            "systemctl <daemon-reload>",
            "systemctl <enable> <--now> <--no-block> <planapply.service>",
            'python3 <-m> <distributed.cli.dask_spec> <tls://10.0.0.5:8786> <--spec> <{"cpu-2-0": {"cls": "distributed.Nanny", "opts": {"death_timeout": 600, "host": "10.0.0.7", "memory_limit": 0.5, "nthreads": 3, "name_": "@NODE@", "name": "cpu-2-0"}}, "cpu-2-1": {"cls": "distributed.Nanny", "opts": {"death_timeout": 600, "host": "10.0.0.7", "memory_limit": 0.5, "nthreads": 3, "name_": "@NODE@", "name": "cpu-2-1"}}}>',
        ]
    )


def test_threads_are_divided_among_processes(machine: Machine) -> None:
    python(machine)
    config = WORKER.model_copy(update={"processes": 3})
    (machine.commands / "nproc").unlink()
    machine.command("nproc", "echo 16")
    assert machine.run(build_script(config, MANY, ADDRESS, None, cluster="c")).returncode == 0
    machine.node()
    spec = json.loads((machine.root / "spec").read_text())
    assert [worker["opts"]["nthreads"] for worker in spec.values()] == [5, 5, 5]


@pytest.mark.parametrize("options", [{"host": "10.0.0.9"}, {"interface": "eth1"}])
def test_own_address_of_the_spec_is_kept(machine: Machine, options: dict[str, Any]) -> None:
    python(machine)
    config = WORKER.model_copy(update={"options": options})
    assert machine.run(build_script(config, MANY, ADDRESS, None, cluster="c")).returncode == 0
    machine.node()
    spec = json.loads((machine.root / "spec").read_text())
    listening = {key: spec["cpu-2"]["opts"].get(key) for key in ("host", "interface")}
    assert listening == {"host": None, "interface": None} | options


def test_address_is_the_one_that_leads_to_the_scheduler(machine: Machine) -> None:
    machine.command("python3", f'exec {sys.executable} "$@"')
    config = with_environment(WORKER)
    script = build_script(config, ["cpu-0"], "tcp://127.0.0.9:8786", None, cluster="c")
    assert machine.run(script).returncode == 0
    spec = json.loads((machine.root / "etc/planapply/spec.json").read_text())
    assert spec["cpu-0"]["opts"]["host"] == "127.0.0.1"


def test_vm_without_a_route_to_the_scheduler_powers_off(machine: Machine) -> None:
    machine.command("python3", "case $* in *getsockname*) exit 1;; esac")
    done = machine.run(build_script(WORKER, ["cpu-0"], ADDRESS, None, cluster="c"))
    assert done.stdout == snapshot("""\
planapply: this VM has no route to the scheduler
planapply: this VM ends: failed
planapply: end: this node cannot start; the reason is above. Shutting down the VM.
""")
    assert machine.logged()[-1] == "systemctl <--no-block> <poweroff>"


def test_failed_start_reports_why_and_powers_off(machine: Machine) -> None:
    own = "*getsockname*) echo 10.0.0.7"
    machine.command("python3", f"case $* in *ami*) echo 1;; {own};; *) exit 1;; esac")
    done = machine.run(build_script(WORKER, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode != 0
    assert done.stdout == snapshot("""\
planapply: this is cpu-1
planapply: the image has no Python with Dask: set packages or docker in [environment]
planapply: this VM ends: failed
planapply: end: this node cannot start; the reason is above. Shutting down the VM.
""")
    assert machine.logged()[-1] == "systemctl <--no-block> <poweroff>"


@pytest.mark.parametrize(
    ("environment", "fails", "says"),
    [
        (
            {"packages": ("pandas",)},
            "find_spec",
            "the packages of [environment] do not include Dask",
        ),
        ({"docker": "alpine"}, "find_spec", "the container image alpine has no Dask"),
        ({"setup": ("true", "false", "true")}, "nothing", "setup command 2 of 3 failed"),
    ],
)
def test_reasons_for_a_failed_start(
    machine: Machine, environment: dict[str, Any], fails: str, says: str
) -> None:
    for name in ("python3", "uv", "docker"):
        machine.command(name, f"case $* in *ami*) echo 1;; *{fails}*) exit 1;; esac")
    inside = machine.root / "opt/planapply/env/bin"
    inside.mkdir(parents=True)
    (inside / "python").symlink_to(machine.commands / "python3")
    config = with_environment(WORKER, **environment)
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == [
        f"planapply: {says}",
        "planapply: this VM ends: failed",
        "planapply: end: this node cannot start; the reason is above. Shutting down the VM.",
    ]
    assert machine.logged()[-1] == "systemctl <--no-block> <poweroff>"


def test_uv_is_installed_if_the_image_has_none(machine: Machine) -> None:
    pip = machine.root / "opt/planapply/uv/bin/pip"
    (machine.root / "opt/planapply/uv/bin").mkdir(parents=True)
    # Debian's python3 cannot create a venv without python3-venv.
    machine.command(
        "python3",
        f"case $* in *ami*) echo 0;; *--clear*) cp {machine.commands}/pip {pip};; *venv*) exit 1;; esac",
    )
    (machine.commands / "cp").symlink_to(str(shutil.which("cp")))
    machine.command("apt-get", "exit 0")
    machine.command("uv", "exit 0")
    uv = machine.commands / "uv"
    uv.rename(uv.with_name("uv-"))
    machine.command("pip", f"cp {uv}- {pip.with_name('uv')}")
    inside = machine.root / "opt/planapply/env/bin"
    inside.mkdir(parents=True)
    (inside / "python").symlink_to(machine.commands / "python3")
    config = with_environment(WORKER, packages=("dask[distributed]",), python="3.12")
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert machine.logged() == snapshot(
        [
            "python3 </etc/planapply/metadata.py> <ami-launch-index> <1>",
            "python3 <-c> <import socket as s, sys; c = s.socket(s.AF_INET, s.SOCK_DGRAM); c.connect((sys.argv[1], 9)); print(c.getsockname()[0])> <10.0.0.5>",
            "python3 <-m> <venv> </opt/planapply/uv>",
            "apt-get <update>",
            "apt-get <install> <-y> <python3-venv>",
            "python3 <-m> <venv> <--clear> </opt/planapply/uv>",
            "pip <install> <--quiet> <uv==0.13.9>",
            "uv <venv> <--python> <3.12> </opt/planapply/env>",
            "uv <pip> <install> <--python> </opt/planapply/env/bin/python> <--requirement> </etc/planapply/requirements.txt>",
            'python3 <-c> <import importlib.util as u, sys; sys.exit(u.find_spec("distributed") is None)>',
            "systemctl <daemon-reload>",
            "systemctl <enable> <--now> <--no-block> <planapply.service>",
        ]
    )
    assert (machine.root / "etc/planapply/requirements.txt").read_text() == "dask[distributed]\n"


def test_container_gets_gpus_and_environment(machine: Machine) -> None:
    machine.command("python3", "case $* in *ami*) echo 3;; *) echo 10.0.0.7;; esac")
    machine.command("docker", "exit 0")
    machine.command("nvidia-smi", "exit 0")
    config = with_environment(WORKER, docker="r/i:1", env={"A": "b c\nd"}).model_copy(
        update={"spot": True}
    )
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert machine.node().returncode == 0
    assert machine.logged()[-1] == snapshot(
        'docker <run> <--rm> <--name> <planapply> <--init> <--network> <host> <--user> <0> <--volume> </etc/planapply:/etc/planapply:ro> <--volume> </var/lib/planapply:/var/lib/planapply> <--env> <DASK_TEMPORARY_DIRECTORY> <--env> <A> <--env> <PLANAPPLY_CLUSTER> <--env> <PLANAPPLY_NODE> <--gpus> <all> <r/i:1> <python> <-m> <distributed.cli.dask_spec> <tls://10.0.0.5:8786> <--spec> <{"cpu-3": {"cls": "distributed.Nanny", "opts": {"death_timeout": 600, "host": "10.0.0.7", "name": "cpu-3"}}}>'
    )


@contextmanager
def spot_service(machine: Machine, answers: str) -> Iterator[subprocess.Popen[str]]:
    """Run the service of a spot VM whose metadata answers so, and what it leaves behind is killed, as by systemd."""
    answers = f"*ami*) echo 3;; *instance-id*) echo i-7;; {answers}"
    machine.command("python3", f"case $* in {answers} esac")
    (machine.commands / "sleep").symlink_to(str(shutil.which("sleep")))
    config = WORKER.model_copy(update={"spot": "prefer", "processes": 2})
    assert machine.run(build_script(config, MANY, ADDRESS, None, cluster="c")).returncode == 0
    with (machine.root / "output").open("w") as output:
        service = subprocess.Popen(
            [machine.root / "etc/planapply/spot"],
            env={"PATH": str(machine.commands)},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield service
    finally:
        os.killpg(service.pid, signal.SIGKILL)
        service.wait()


def test_spot_notice_is_reported_and_retires_the_workers(machine: Machine) -> None:
    with spot_service(machine, "*rebalance*) exec sleep 600;;") as service:
        assert service.wait() == 0
        assert (machine.root / "output").read_text() == snapshot("""\
planapply: EC2 will interrupt this spot VM; retiring its workers
planapply: this VM ends: reclaimed
""")
        # The other loop may ask at any time.
        log = "\n".join(line for line in machine.logged() if "rebalance>" not in line)
        assert log[log.index("python3 <-c> <\nimport os") :] == snapshot("""\
python3 <-c> <
import os, sys, time
from distributed import Client
kind, vm, scheduler, *workers = sys.argv[1:]
notice = {"node": os.environ["PLANAPPLY_NODE"], "vm": vm, "kind": kind, "time": time.time()}
with Client(scheduler, timeout=10) as client:
    client.log_event("planapply-notices", notice)
    if workers:
        client.retire_workers(names=workers, remove=True, close_workers=True)
> <interruption> <i-7> <tls://10.0.0.5:8786> <cpu-3-0> <cpu-3-1>\
""")


def test_rebalance_recommendation_is_only_reported(machine: Machine) -> None:
    with spot_service(machine, "*instance-action*) exec sleep 600;;"):
        while not (reports := [line for line in machine.logged() if "<rebalance>" in line]):
            time.sleep(0.01)
        assert reports == snapshot(["> <rebalance> <i-7> <tls://10.0.0.5:8786>"])
        assert (machine.root / "output").read_text() == ""


def end_reason(machine: Machine, scheduler: str | None, result: str, state: str = "running") -> str:
    """Return what a node prints when its Dask process has ended."""
    python(machine)
    for name in ("timeout", "sleep"):
        (machine.commands / name).unlink(missing_ok=True)
        (machine.commands / name).symlink_to(str(shutil.which(name)))
    machine.command("systemctl", f"echo {state}")
    config = WORKER if scheduler else SCHEDULER
    assert machine.run(build_script(config, ["n"], scheduler, None, cluster="c")).returncode == 0
    done = subprocess.run(
        [machine.root / "etc/planapply/ended"],
        env={"PATH": str(machine.commands), "SERVICE_RESULT": result},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_node_prints_why_it_ends(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert end_reason(machine, address, "success") == ""  # it was retired
        assert end_reason(machine, address, "exit-code") == "planapply: this VM ends: failed\n"
    gone = end_reason(machine, address, "success")
    assert gone == "planapply: this VM ends: scheduler_gone\n"
    assert end_reason(machine, None, "success") == "planapply: this VM ends: shutdown\n"
    assert end_reason(machine, None, "success", "stopping") == ""  # such as at the ttl


def test_ttl_deadline_survives_a_reboot(machine: Machine) -> None:
    machine.command("python3", "echo 3")
    config = WORKER.model_copy(update={"ttl": 5400.0})
    (machine.commands / "date").unlink()
    machine.command("date", "echo 2026-01-01 12:00:00 UTC")
    assert machine.run(build_script(config, MANY, ADDRESS, None, cluster="c")).returncode == 0
    timer = machine.root / "etc/systemd/system/planapply-ttl.timer"
    assert timer.read_text() == snapshot("""\
[Unit]
Description=The ttl of this VM
[Timer]
OnCalendar=2026-01-01 12:00:00 UTC
AccuracySec=1s
Persistent=true
[Install]
WantedBy=timers.target
""")
    assert machine.logged()[0] == "date <-u> <-d> <+5400 seconds> <+%F %T UTC>"


@pytest.mark.parametrize(
    ("console", "own"),
    [
        ("", ""),
        ("boot\nplanapply: start x\nworking\n", "planapply: start x\nworking\n"),
        (
            "boot\nplanapply: start x\nplanapply: end y\nStopped\n",
            "planapply: start x\nplanapply: end y\n",
        ),
        (
            "no\nDask\nplanapply: end of this VM\nStopped\nPowering off\n",
            "Dask\nplanapply: end of this VM\n",
        ),
        ("planapply: end y\nReboot\nplanapply: start x\nworking", "planapply: start x\nworking"),
        ("why\nplanapply: end y", "why\nplanapply: end y"),
    ],
)
def test_node_output_is_cut_before_shutdown_messages(console: str, own: str) -> None:
    assert extract_node_lines(console, 2) == own
    assert extract_node_lines(console, 0) == ""


# Text that a spec can contain: TOML has no lone surrogates, and the model no zero byte.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True).filter(
    lambda key: key not in ("PATH", "_", "SHLVL", "PWD", "OLDPWD", "LD_PRELOAD")
)
values = st.none() | st.booleans() | st.integers() | texts


@settings(max_examples=40)
@given(
    variables=st.dictionaries(keys, texts, max_size=5),
    options=st.dictionaries(texts, values | st.lists(values), max_size=4),
    index=st.integers(0, 2),
)
def test_bash_quoting_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    variables: dict[str, str],
    options: dict[str, Any],
    index: int,
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    python(machine, index)
    config = with_environment(WORKER, env=variables).model_copy(update={"options": options})
    text = build_script(config, ["cpu-3", "cpu-4", "cpu-9"], ADDRESS, None, cluster="c")
    # The test changes these.
    assume(not any(map(OWN_PATHS.search, (*variables.values(), json.dumps(options)))))
    done = machine.run(text)
    assert done.returncode == 0, done.stderr
    assert machine.node().returncode == 0
    name = ["cpu-3", "cpu-4", "cpu-9"][index]
    assert environment_of(machine).items() >= variables.items()
    spec = json.loads((machine.root / "spec").read_text())
    assert spec == {
        name: {
            "cls": "distributed.Nanny",
            "opts": {"death_timeout": 600, "host": "10.0.0.7", **options, "name": name},
        }
    }


@pytest.mark.parametrize("command", ["false\ntrue", "false | cat", "set -u; : ; false; true"])
def test_setup_stops_at_the_first_error_in_a_command(machine: Machine, command: str) -> None:
    python(machine)
    config = with_environment(WORKER, setup=(command, f"touch {machine.root}/later"))
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 1
    assert "planapply: setup command 1 of 2 failed\n" in done.stdout
    assert not (machine.root / "later").exists()


def test_each_setup_command_has_its_own_shell(machine: Machine) -> None:
    python(machine)
    (machine.commands / "pwd").symlink_to(str(shutil.which("pwd")))
    config = with_environment(WORKER, setup=("cd /; X=1", f"echo $PWD ${{X:-}} >{machine.log}"))
    assert machine.run(build_script(config, MANY, ADDRESS, None, cluster="c")).returncode == 0
    assert "/ 1" not in machine.log.read_text()


def without(machine: Machine, name: str, does: str = "exit 0") -> None:
    """Let apt-get install a command that the machine does not have."""
    (machine.commands / "mv").symlink_to(str(shutil.which("mv")))
    machine.command(name, does)
    (machine.commands / name).rename(machine.commands / f"{name}-")
    apt = f'case "$*" in *install*) mv {machine.commands}/{name}- {machine.commands}/{name};; esac'
    machine.command("apt-get", apt)


def test_docker_is_installed_before_setup(machine: Machine) -> None:
    python(machine)
    without(machine, "docker")
    config = with_environment(WORKER, docker="r.io/x", setup=("docker login r.io",))
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert machine.logged()[2:6] == snapshot(
        [
            "apt-get <update>",
            "apt-get <install> <-y> <docker.io>",
            "apt-get <update>",
            "docker <login> <r.io>",
        ]
    )


def test_image_without_apt_gets_docker_from_setup(machine: Machine) -> None:
    python(machine)
    machine.command("docker", "exit 0")
    docker = machine.commands / "docker"
    docker.rename(machine.commands / "docker-")
    (machine.commands / "mv").symlink_to(str(shutil.which("mv")))
    config = with_environment(WORKER, docker="r.io/x", setup=(f"mv {docker}- {docker}",))
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    config = with_environment(WORKER, docker="r.io/x")
    docker.unlink()
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert "planapply: the image has no docker, and no apt-get to install it" in done.stdout


@pytest.mark.parametrize(
    ("requirements", "is_installed"),
    [("git+https://h/a/b", True), ("-e git+https://h/a/b#egg=b", True), ("dask # git+x", False)],
)
def test_git_is_installed_if_a_requirement_needs_it(
    machine: Machine, requirements: str, is_installed: bool
) -> None:
    python(machine)
    without(machine, "git")
    machine.command("uv", "exit 0")
    inside = machine.root / "opt/planapply/env/bin"
    inside.mkdir(parents=True)
    (inside / "python").symlink_to(machine.commands / "python3")
    config = with_environment(WORKER, requirements=requirements)
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert ("apt-get <install> <-y> <git>" in machine.logged()) == is_installed
    assert "-e" not in (machine.root / "etc/planapply/requirements.txt").read_text()


def test_options_of_requirements_reach_uv(machine: Machine) -> None:
    python(machine)
    machine.command("uv", "exit 0")
    inside = machine.root / "opt/planapply/env/bin"
    inside.mkdir(parents=True)
    (inside / "python").symlink_to(machine.commands / "python3")
    text = "--pre\n--trusted-host h\ndask --config-settings='a=$(reboot) b'\n"
    config = with_environment(WORKER, requirements=text)
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert machine.logged()[-4] == snapshot(
        "uv <pip> <install> <--prerelease=allow> <--allow-insecure-host=h> <--config-settings-package=dask:a=$(reboot) b> <--python> </opt/planapply/env/bin/python> <--requirement> </etc/planapply/requirements.txt>"
    )
    assert (machine.root / "etc/planapply/requirements.txt").read_text() == "\n\ndask\n"


def test_proxy_reaches_apt_and_the_daemon_of_docker(machine: Machine) -> None:
    python(machine)
    apt = f'echo "apt: $http_proxy, $https_proxy, $no_proxy" >>{machine.log}'
    machine.command("apt-get", apt)
    machine.command("docker", f'echo "docker: $http_proxy" >>{machine.log}')
    proxies = {"HTTP_PROXY": "http://p%20:8080", "https_proxy": "http://q", "NO_PROXY": 'h,"\\\n'}
    config = with_environment(
        WORKER,
        docker="x",
        env=proxies,
        setup=(f'echo "setup: $http_proxy, $HTTP_PROXY, $https_proxy" >>{machine.log}',),
    )
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    lines = machine.logged()
    for line in (
        'apt: http://p%20:8080, http://q, h,"\\',
        "docker: http://p%20:8080",
        "setup: http://p%20:8080, http://p%20:8080, http://q",
        "systemctl <try-restart> <docker>",
    ):
        assert line in lines
    unit = machine.root / "etc/systemd/system/docker.service.d/90-planapply.conf"
    assert unit.read_text() == snapshot("""\
[Service]
Environment="HTTP_PROXY=http://p%%20:8080"
Environment="HTTPS_PROXY=http://q"
Environment="NO_PROXY=h,\\"\\\\\\n"
""")
    assert "http_proxy" not in environment_of_run(machine)


def environment_of_run(machine: Machine) -> str:
    return (machine.root / "etc/planapply/node").read_text()


@pytest.mark.parametrize("value", ["/o x:$PATH", "/o x:${PATH}:/z", "$PATH", "/o:$PATHS:$PATH"])
def test_path_is_extended(machine: Machine, value: str) -> None:
    python(machine)
    env = {"PATH": value, "LD_LIBRARY_PATH": "/l:$LD_LIBRARY_PATH", "SECRET": "$PATH$(reboot)"}
    config = with_environment(WORKER, env=env, setup=("true",))
    done = machine.run(build_script(config, MANY, ADDRESS, None, cluster="c"))
    assert done.returncode == 0, done.stderr
    assert machine.node().returncode == 0
    found = environment_of(machine)
    expected = value.replace("${PATH}", "$PATH").replace("$PATHS", "?")
    expected = expected.replace("$PATH", str(machine.commands)).replace("?", "$PATHS")
    assert found["PATH"] == expected
    assert found["LD_LIBRARY_PATH"] == "/l:"
    assert found["SECRET"] == "$PATH$(reboot)"


def test_zero_byte_does_not_reach_the_script() -> None:
    config = with_environment(WORKER, requirements="dask\nEN\0D\nreboot\n")
    with pytest.raises(PlanapplyError, match="zero byte"):
        build_script(config, MANY, ADDRESS, None, cluster="c")


SECRETS = {"TOKEN": 'it\'s $TOKEN "q"\nEND\n', "environment": "tiger", "dask": "lion"}
"""Values with quotes and delimiters, and names of the script's own variables."""


def with_secrets(**environment: Any) -> NodeConfig:
    references = {name: f"env:{name}" for name in SECRETS}
    return with_environment(WORKER, env=references | {"PLAIN": "1"}, **environment)


def test_secrets_are_in_a_private_file_and_the_environment_only(machine: Machine) -> None:
    python(machine)
    machine.command("seen", f"env -0 >{machine.root}/setup")
    script = build_script(
        with_secrets(setup=("seen",)), MANY, ADDRESS, PAIR, cluster="c", secrets=SECRETS
    )
    done = machine.run(script)
    assert done.returncode == 0, done.stderr
    assert machine.node().returncode == 0
    assert {k: v for k, v in environment_of(machine).items() if k in SECRETS} == SECRETS
    assert environment_of(machine)["PLAIN"] == "1"
    in_setup = dict(p.split("=", 1) for p in (machine.root / "setup").read_text().split("\0") if p)
    assert {k: v for k, v in in_setup.items() if k in SECRETS} == SECRETS
    file = machine.root / "etc/planapply/secrets"
    assert file.stat().st_mode & 0o777 == 0o600
    having = [
        p for p in (machine.root / "etc").rglob("*") if p.is_file() and b"tiger" in p.read_bytes()
    ]
    assert having == [file]
    assert not any("tiger" in call or "it's" in call for call in machine.logged())
    assert "tiger" not in done.stdout + done.stderr


def test_container_gets_secrets_by_name(machine: Machine) -> None:
    python(machine)
    machine.command("docker", f'[ "$1" != run ] || env -0 >{machine.root}/env')
    script = build_script(
        with_secrets(docker="daskdev/dask"), MANY, ADDRESS, None, cluster="c", secrets=SECRETS
    )
    assert machine.run(script).returncode == 0
    machine.node()
    *_, run = [call for call in machine.logged() if call.startswith("docker <run>")]
    assert "<--env> <TOKEN> <--env> <environment> <--env> <dask>" in run
    assert "tiger" not in run
    assert {k: v for k, v in environment_of(machine).items() if k in SECRETS} == SECRETS
