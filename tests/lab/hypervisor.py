"""Process of the lab: EC2, and a real machine for each instance.

`machines.Machines` starts it in new namespaces, as their first process: when it exits, everything in
them exits. A loop reconciles the machines with moto's instances, in both directions.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from moto.ec2.models import ec2_backends

from lab import base, network
from lab.honest import Cloud, listen, serve
from lab.metadata import Metadata
from lab.seed import ACCOUNT
from lab.stock import ENDED

REBOOT = 133
"""Exit code of systemd-nspawn when its machine reboots."""
TICK = 0.05
BootFault = Literal["never-boots", "full-disk", "no-network"]


class Machine:
    """Machine of one instance: systemd with its own disk and its own network."""

    def __init__(self, vm: Any, number: int, folder: Path, boot_fault: BootFault | None) -> None:
        self.id, self.boot_fault = vm.id, boot_fault
        self.disk, self.console = folder / "disks" / vm.id, folder / "console" / f"{vm.id}.log"
        self.console.touch()
        self.port = network.Port(vm.id, vm.private_ip, vm.public_ip, f"vm{number}")
        self._process: subprocess.Popen[bytes] | None = None
        self._hostname = vm.private_dns_name.partition(".")[0]
        self.disk.mkdir()
        mount("tmpfs", self.disk, "-o", "size=1g")
        for name in ("changed/etc", "work", "root"):
            (self.disk / name).mkdir(parents=True)
        hosts = f"127.0.0.1 localhost\n{vm.private_ip} {vm.private_dns_name} {self._hostname}\n"
        (self.disk / "changed/etc/hosts").write_text(hosts)
        lower = ":".join(map(str, base.layers()))
        parts = f"lowerdir={lower},upperdir={self.disk}/changed,workdir={self.disk}/work"
        mount("overlay", self.disk / "root", "-o", parts)
        if boot_fault == "full-disk":
            self.fill_disk()
        if boot_fault == "no-network":
            self.port.disconnect(True)

    def boot(self) -> None:
        """Power the machine on."""
        if self.boot_fault == "never-boots":
            return
        groups = [folder / self.id for folder in find_cgroups(os.environ["LAB_CGROUP"])]
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        join_cgroups = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        nspawn = (
            "systemd-nspawn",
            "--boot",
            "--quiet",
            f"--directory={self.disk}/root",
            f"--machine={self.id}",
            f"--hostname={self._hostname}",
            f"--network-namespace-path=/run/netns/{self.id}",
            "--register=no",
            "--keep-unit",
            "--console=read-only",
            "--resolv-conf=off",
            "--link-journal=no",
        )
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{join_cgroups}; exec "$@"', "sh", *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    def exit_code(self) -> int | None:
        """Return how the machine powered off by itself; None if it is on, or never was."""
        return self._process.poll() if self._process else None

    @property
    def is_off(self) -> bool:
        """Return whether the machine is off."""
        return self._process is None

    def kill(self) -> None:
        """Power the machine off, as a hypervisor does."""
        while self._process and self._process.poll() is None:
            # Killing its first process kills all others; before it exists, kill nspawn.
            os.kill(self.find_leader() or self._process.pid, signal.SIGKILL)
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def break_down(self) -> None:
        """Kill the machine; the lab then notices that it has ended, as after any other end."""
        leader = self.find_leader()
        assert leader, "it has not booted yet"
        os.kill(leader, signal.SIGKILL)

    def find_leader(self) -> int | None:
        """Return the first process of the machine, once it has one."""
        assert self._process
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def remove(self) -> None:
        """Remove the machine's disk and network."""
        self.kill()
        self.port.close()
        for folder in (self.disk / "root", self.disk):
            network.run("umount", "--lazy", str(folder))
        for group in find_cgroups(os.environ["LAB_CGROUP"]):
            remove_cgroup(group / self.id)

    def fill_disk(self) -> None:
        """Fill the machine's disk."""
        room = os.statvfs(self.disk)
        with (self.disk / "changed/filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def sh(self, command: str) -> dict[str, Any]:
        """Run a shell command in the machine, as root."""
        leader = self.find_leader() if self._process else None
        if leader is None:
            return {"code": -1, "out": "", "err": "it has not been started yet"}
        enter = ("nsenter", "--all", f"--target={leader}", "--root", "--wd", "--")
        done = subprocess.run(
            [*enter, "/bin/sh", "-c", command], capture_output=True, text=True, check=False
        )
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


class Hypervisor(Cloud):
    """Cloud whose instances are machines."""

    methods = (
        *Cloud.methods,
        "boot_fault",
        "disconnect",
        "drop_packets",
        "break_host",
        "fill_disk",
        "sh",
        "console",
        "machines",
    )

    def __init__(self, folder: Path, seed_: int) -> None:
        super().__init__(seed_, machines=True, address="")
        self._folder = folder
        self._machines: dict[str, Machine] = {}
        self._number = 0
        self._boot_faults: list[tuple[BootFault, dict[str, str], int | None]] = []
        self.ec2.console = lambda id_: (folder / "console" / f"{id_}.log").read_bytes()

    def boot_fault(
        self, kind: BootFault, tags: dict[str, str] | None = None, index: int | None = None
    ) -> None:
        """Set the fault of the next launched VM with these tags and this launch index."""
        self._boot_faults.append((kind, tags or {}, index))

    def disconnect(self, ids: list[str], cut: bool = True) -> None:
        """Disconnect VMs from the network, or connect them again."""
        for id_ in ids:
            self._machines[id_].port.disconnect(cut)

    def drop_packets(self, ids: list[str], percent: int) -> None:
        """Make VMs lose that share of the packets that they receive."""
        for id_ in ids:
            self._machines[id_].port.drop_packets(percent)

    def break_host(self, ids: list[str]) -> None:
        """Make VMs end at once, without a shutdown and without a notice, as when their host fails."""
        for id_ in ids:
            self._machines[id_].break_down()

    def fill_disk(self, ids: list[str]) -> None:
        """Fill VMs' disks."""
        for id_ in ids:
            self._machines[id_].fill_disk()

    def sh(self, id: str, command: str) -> dict[str, Any]:
        """Run a shell command in a VM; return its exit code, `out`, and `err`."""
        return self._machines[id].sh(command)

    def console(self, id: str) -> str:
        """Return the console output of a VM."""
        return self.ec2.console(id).decode(errors="replace") if self.ec2.console else ""

    def machines(self) -> list[str]:
        """Return the VMs that have machines."""
        return sorted(self._machines)

    def reconcile(self) -> None:
        """Reconcile the machines with the instances, and the instances with the machines."""
        with self.lock:
            for region in list(ec2_backends[ACCOUNT]):
                self.ec2.apply_due_changes(region)
            vms = {vm.id: vm for vm in self.ec2.instances()}
            running = [vm for vm in vms.values() if vm.state in ("pending", "running")]
            firewall_rules = {vm.id: network.firewall_rules(vm, running) for vm in running}
        for machine in list(self._machines.values()):
            self._sync_machine(machine, vms.get(machine.id))
        for vm in running:
            is_new = vm.id not in self._machines
            if is_new and vm.state in ("pending", "running"):
                self._number += 1
                machine = Machine(vm, self._number, self._folder, self._take_boot_fault(vm))
                self._machines[vm.id] = machine
            if vm.id in self._machines:
                self._machines[vm.id].port.set_firewall(firewall_rules[vm.id])
            if is_new and vm.id in self._machines:
                self._machines[vm.id].boot()

    def _sync_machine(self, machine: Machine, vm: Any) -> None:
        code = machine.exit_code()
        if vm is None or vm.state in ENDED:
            del self._machines[machine.id]
            machine.remove()
        elif code == REBOOT or (code is None and vm.state == "running" and machine.is_off):
            machine.boot()
        elif code is not None or vm.state == "stopped":
            machine.kill()
            with self.lock:
                if code == 0:
                    self.ec2.power_off(vm)
                elif code is not None:
                    reason = "Server.InternalError"
                    self.ec2.terminate_vm(
                        vm, reason, f"{reason}: ended with {code}, see its console"
                    )

    def _take_boot_fault(self, vm: Any) -> BootFault | None:
        tags = {tag["key"]: tag["value"] for tag in vm.get_tags()}
        for boot_fault in self._boot_faults:
            kind, required_tags, index = boot_fault
            if required_tags.items() <= tags.items() and index in (None, vm.ami_launch_index):
                self._boot_faults.remove(boot_fault)
                return kind
        return None


def find_cgroups(name: str) -> list[Path]:
    """Return the folders of the cgroup `name` below this process's own, in systemd's hierarchies (v2 and v1)."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        for mounted in mounts:
            kind, options = mounted[mounted.index("-") + 1], mounted[-1].split(",")
            v2 = controllers == "" and kind == "cgroup2"
            v1 = controllers == "name=systemd" and kind == "cgroup" and controllers in options
            if v1 or v2:
                found.append(Path(mounted[4]) / own.strip("/") / name)
    return found


def remove_cgroup(group: Path) -> None:
    """Remove a cgroup, and the empty ones in it."""
    for folder in sorted(group.glob("**/"), reverse=True):
        # A process that has just exited holds its cgroup for a moment: the lab removes it at exit.
        with suppress(OSError):
            folder.rmdir()


def mount(kind: str, where: Path, *options: str) -> None:
    """Mount a file system of that type."""
    network.run("mount", "-t", kind, *options, kind, str(where))


def watch_stdin(stopped: threading.Event) -> None:
    """Exit when stdin is closed: so the lab never outlives the process that started it."""
    sys.stdin.read()
    stopped.set()


def main() -> None:
    """Run until stdin is closed; the first line on stdout is the cloud's address."""
    folder = Path(sys.argv[1])
    for place in (Path("/run/netns"), Path("/run/systemd"), folder / "disks"):
        place.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", place)
    (folder / "console").mkdir()
    network.build()
    stopped = threading.Event()
    threading.Thread(target=watch_stdin, args=(stopped,), daemon=True).start()
    cloud = Hypervisor(folder, int(sys.argv[2]))
    metadata = listen(Metadata(cloud.ec2), network.METADATA, 80)
    with serve(cloud, network.INTERNET, 80), metadata:
        print(json.dumps(cloud.env), flush=True)
        while not stopped.wait(TICK):
            cloud.reconcile()


if __name__ == "__main__":
    main()
