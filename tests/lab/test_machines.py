"""Real machines of the lab's instances, through boto3 and Dask."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from order import few

from lab import base, machines
from lab.machines import Machines

pytestmark = [pytest.mark.slow, pytest.mark.lab]
client: Callable[..., Any] = boto3.client
PYTHON = "/opt/planapply/bin/python"
SCHEDULER = {"cls": "distributed.Scheduler", "opts": {"port": 8786, "dashboard": False}}
WORKER = """#!/bin/bash
token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' 169.254.169.254/latest/api/token)
index=$(curl -s -H "X-aws-ec2-metadata-token: $token" 169.254.169.254/latest/meta-data/ami-launch-index)
exec /opt/planapply/bin/dask spec {scheduler} --spec '{{"w": {{"cls": "distributed.Worker", "opts": \
{{"name": "w-'$index'", "nthreads": 1}}}}}}'
"""


class Account:
    """boto3 client with the parameters of every launch in these tests."""

    def __init__(self) -> None:
        self.ec2 = client("ec2")
        zone = [{"Name": "availability-zone", "Values": ["eu-west-1a"]}]
        self.subnet = self.ec2.describe_subnets(Filters=zone)["Subnets"][0]["SubnetId"]
        path = "/aws/service/debian/release/12/latest/amd64"
        self.image = client("ssm").get_parameter(Name=path)["Parameter"]["Value"]
        self.group = self.ec2.create_security_group(GroupName="g", Description="g")["GroupId"]
        self.let({"UserIdGroupPairs": [{"GroupId": self.group}], "IpProtocol": "-1"})

    def let(self, rule: dict[str, Any]) -> None:
        self.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[rule])

    def run(self, user_data: str, count: int = 1, **more: Any) -> list[dict[str, Any]]:
        started = self.ec2.run_instances(
            ImageId=self.image,
            InstanceType="m7i.large",
            SubnetId=self.subnet,
            SecurityGroupIds=[self.group],
            InstanceInitiatedShutdownBehavior="terminate",
            MinCount=count,
            MaxCount=count,
            UserData=user_data,
            **more,
        )
        return sorted(started["Instances"], key=lambda vm: vm["AmiLaunchIndex"])


@pytest.fixture
def account(lab: Machines) -> Account:
    return Account()


def wait_until(happens: Callable[[], Any], what: str, seconds: float = 300.0) -> Any:
    """Wait until the condition is true; the time limit only stops a broken test."""
    end = time.monotonic() + seconds
    while not (got := happens()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return got


def sh(lab: Machines, vm: str, command: str) -> str:
    done = lab.cloud.sh(id=vm, command=command)
    assert done["code"] == 0, done
    return str(done["out"])


def ran(lab: Machines, vm: str) -> None:
    """Wait until cloud-init has run the user data."""
    path = "/run/cloud-init/result.json"
    wait_until(lambda: vm in lab.cloud.machines(), "a machine")
    wait_until(
        lambda: lab.cloud.sh(id=vm, command=f"test -e {path}")["code"] == 0, "cloud-init's end"
    )


def opens(address: str, port: int) -> bool:
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex((address, port)) == 0


def live(lab: Machines) -> list[str]:
    return [vm["id"] for vm in lab.cloud.instances()]


# Debian's Python has another micro version than the tests' Python.
@pytest.mark.filterwarnings("ignore:Mismatched versions")
def test_dask_runs_across_machines_and_survives_their_loss(lab: Machines, account: Account) -> None:
    import distributed

    connect: Callable[..., Any] = distributed.Client
    account.let(
        {
            "IpProtocol": "tcp",
            "FromPort": 8786,
            "ToPort": 8786,
            "IpRanges": [{"CidrIp": "203.0.113.7/32"}],
        }
    )
    spec = json.dumps(SCHEDULER)
    (head,) = account.run(f"#!/bin/bash\nexec /opt/planapply/bin/dask spec --spec '{spec}'\n")
    workers = account.run(
        WORKER.format(scheduler=f"tcp://{head['PrivateIpAddress']}:8786"),
        3,
        MetadataOptions={"HttpTokens": "required"},
        InstanceMarketOptions={"MarketType": "spot"},
    )
    ids = [vm["InstanceId"] for vm in workers]
    address = head["PublicIpAddress"]
    wait_until(lambda: opens(address, 8786), "the scheduler")
    with connect(f"tcp://{address}:8786", timeout=300) as dask:
        dask.wait_for_workers(3, timeout=300)
        names = {worker["name"] for worker in dask.scheduler_info(n_workers=-1)["workers"].values()}
        assert names == {"w-0", "w-1", "w-2"}
        assert dask.submit(sum, [dask.submit(pow, 2, n) for n in range(10)]).result(60) == 1023

        def joined() -> set[str]:
            workers = dask.scheduler_info(n_workers=-1)["workers"]
            return {worker["name"] for worker in workers.values()}

        sh(lab, ids[0], "systemctl poweroff")
        wait_until(lambda: ids[0] not in live(lab), "the end after its own poweroff")
        wait_until(lambda: joined() == {"w-1", "w-2"}, "the scheduler's notice")
        notice = "curl -s -o /dev/null -w '%{{http_code}}' {} 169.254.169.254/latest/meta-data/spot/instance-action"
        token = "curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 9' 169.254.169.254/latest/api/token"
        header = f'-H "X-aws-ec2-metadata-token: $({token})"'
        assert sh(lab, ids[1], notice.format("")) == "401"
        assert sh(lab, ids[1], notice.format(header)) == "404"
        lab.cloud.reclaim(ids=[ids[1]], notice=3600)
        assert sh(lab, ids[1], notice.format(header)) == "200"
        lab.cloud.reclaim(ids=[ids[1]], notice=0)
        wait_until(lambda: joined() == {"w-2"}, "the scheduler's notice")
        account.ec2.terminate_instances(InstanceIds=[ids[2], head["InstanceId"]])
    wait_until(lambda: not lab.cloud.machines(), "the end of the machines")
    reasons = {vm["id"]: vm["reason"] for vm in lab.cloud.instances(live=False)}
    assert [reasons[id_].rpartition(".")[2] for id_ in ids] == [
        "InstanceInitiatedShutdown",
        "SpotInstanceTermination",
        "UserInitiatedShutdown",
    ]


@pytest.mark.soak
def test_machine_reads_its_metadata(lab: Machines, account: Account) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "planapply:cluster", "Value": "c"}]}]
    options = {"InstanceMetadataTags": "enabled"}
    vms = account.run(
        "#!/bin/bash\necho said\n", 2, TagSpecifications=tags, MetadataOptions=options
    )
    vm = vms[1]["InstanceId"]
    ran(lab, vm)
    ask = "curl -sf 169.254.169.254/latest/{}"
    got = {
        path: sh(lab, vm, ask.format(path))
        for path in (
            "meta-data/ami-launch-index",
            "meta-data/instance-id",
            "meta-data/tags/instance/planapply:cluster",
            "meta-data/placement/availability-zone",
            "meta-data/local-ipv4",
            "user-data",
        )
    }
    assert list(got.values()) == [
        "1",
        vm,
        "c",
        "eu-west-1a",
        vms[1]["PrivateIpAddress"],
        "#!/bin/bash\necho said\n",
    ]
    assert (
        json.loads(sh(lab, vm, ask.format("dynamic/instance-identity/document")))["instanceId"]
        == vm
    )
    output = account.ec2.get_console_output(InstanceId=vm)["Output"]
    assert "said" in output
    assert "Debian" in output
    sh(lab, vm, "systemctl reboot")
    wait_until(lambda: lab.cloud.console(id=vm).count("Welcome to") == 2, "a second boot")
    assert vm in live(lab)


@pytest.mark.soak
def test_uv_installs_from_the_wheelhouse(lab: Machines, account: Account) -> None:
    script = "#!/bin/bash\nuv venv /opt/own && uv pip install -p /opt/own dask distributed\n"
    (vm,) = account.run(script)
    ran(lab, vm["InstanceId"])
    versions = [pin for pin in base.pins() if pin.startswith("distributed==")]
    shown = sh(lab, vm["InstanceId"], "uv pip freeze -p /opt/own")
    assert set(versions) <= set(shown.splitlines())


def test_security_groups_are_enforced(lab: Machines, account: Account) -> None:
    web = f"#!/bin/bash\n{PYTHON} -m http.server 8000 &\n{PYTHON} -m http.server 8001 &\n"
    first, second = account.run(web, 2)
    public, private = first["PublicIpAddress"], first["PrivateIpAddress"]
    ran(lab, second["InstanceId"])
    wait_until(lambda: opens_from(lab, second["InstanceId"], private, 8001), "a member")
    assert not opens(public, 8000)
    assert not opens(private, 8000)
    me = {
        "IpProtocol": "tcp",
        "FromPort": 8000,
        "ToPort": 8000,
        "IpRanges": [{"CidrIp": "203.0.113.7/32"}],
    }
    account.let(me)
    wait_until(lambda: opens(public, 8000), "the new rule")
    assert not opens(public, 8001)
    assert not opens(private, 8000)
    account.ec2.revoke_security_group_ingress(GroupId=account.group, IpPermissions=[me])
    wait_until(lambda: not opens(public, 8000), "the rule's end")
    account.let({**me, "IpRanges": [{"CidrIp": "172.31.0.1/32"}]})
    with lab.on_network("vpc"):
        wait_until(lambda: opens(private, 8000), "the VPC's own")


def opens_from(lab: Machines, vm: str, address: str, port: int) -> bool:
    command = f"curl -s -m 1 -o /dev/null {address}:{port}"
    return bool(lab.cloud.sh(id=vm, command=command)["code"] == 0)


@pytest.mark.soak
def test_boot_faults(lab: Machines, account: Account) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "n", "Value": "x"}]}]
    lab.cloud.boot_fault(kind="never-boots", tags={"n": "x"}, index=1)
    lab.cloud.boot_fault(kind="full-disk", tags={"n": "x"}, index=2)
    lab.cloud.boot_fault(kind="no-network", tags={"n": "x"}, index=3)
    vms = account.run("#!/bin/bash\necho said\n", 4, TagSpecifications=tags)
    well, dead, full, mute = (vm["InstanceId"] for vm in vms)
    ran(lab, well)
    assert lab.cloud.console(id=dead) == ""
    assert dead in live(lab)
    assert "said" in lab.cloud.console(id=well)
    wait_until(lambda: "No space left" in lab.cloud.console(id=full), "a full disk")
    wait_until(lambda: "timed out" in lab.cloud.console(id=mute), "no network")
    router = "curl -s -m 2 -o /dev/null 169.254.169.254/latest/"
    lab.cloud.disconnect(ids=[well])
    assert lab.cloud.sh(id=well, command=router)["code"] != 0
    lab.cloud.disconnect(ids=[well], cut=False)
    wait_until(lambda: lab.cloud.sh(id=well, command=router)["code"] == 0, "the cable")
    lab.cloud.drop_packets(ids=[well], percent=100)
    assert lab.cloud.sh(id=well, command=router)["code"] != 0
    lab.cloud.drop_packets(ids=[well], percent=0)
    wait_until(lambda: lab.cloud.sh(id=well, command=router)["code"] == 0, "all packets")


def descendants(pid: int) -> set[int]:
    """Return the descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child, *descendants(child)}
    return found


def namespaces(kinds: tuple[str, ...] = ("net", "mnt", "pid")) -> dict[int, set[str]]:
    """Return the namespaces of each process."""
    found: dict[int, set[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found[int(folder.name)] = {os.readlink(folder / "ns" / kind) for kind in kinds}
    return found


@pytest.mark.parametrize("killed", few([True, False], 1))
def test_no_resources_are_left(tmp_path: Path, killed: bool) -> None:
    if reason := base.unavailable_reason():
        pytest.skip(reason)
    folder = tmp_path / "lab"
    with subprocess.Popen(
        [sys.executable, "-c", _USER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout
        assert user.stdout.readline() == "2 machines\n"
        processes, spaces = descendants(user.pid), namespaces()
        new = set[str]().union(*(spaces[pid] for pid in processes if pid in spaces))
        new -= spaces[os.getpid()]
        assert len(processes) > 10
        assert len(new) > 6
        if killed:
            user.kill()
        else:
            user.communicate("")
    wait_until(
        lambda: not any(new & of for of in namespaces().values()), "the end of all processes"
    )
    machines.remove_stale_cgroups()
    assert list(Path("/sys/fs/cgroup").glob(f"**/planapply-lab-{user.pid}-*")) == []
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert {name for _, name in socket.if_nameindex()}.isdisjoint({"vpc", "home", "vm1"})


_USER = """
import sys, time
from contextlib import suppress
from pathlib import Path
from lab.machines import Machines
from lab import test_machines
import os
with Machines(Path(sys.argv[1])) as lab, lab.on_network():
    os.environ |= lab.env
    vms = test_machines.Account().run("#!/bin/bash\\n", 2)
    for vm in vms:
        test_machines.ran(lab, vm["InstanceId"])
    print(len(lab.cloud.machines()), "machines", flush=True)
    sys.stdin.read()
"""
