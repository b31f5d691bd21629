"""Time from an apply to its first result, compared with the bare boot of the same machines, in the lab.

`python benchmarks/boot.py`: one scheduler and four workers on real machines (systemd-nspawn), first
by `planapply apply`, then by boto3 with the same user data, all at once. The benchmark has the lab's
requirements (`make lab`), and prints which one is missing if it cannot run.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import boto3  # noqa: E402
from ec2.site import LabProject, wait_until  # noqa: E402
from lab import base  # noqa: E402
from lab.machines import Machines  # noqa: E402

from planapply.bootstrap import build_user_data  # noqa: E402
from planapply.model.names import SCHEDULER, split_name  # noqa: E402
from planapply.model.state import State  # noqa: E402

WORKERS = 4


def main() -> None:
    """Measure both, and print the results."""
    if reason := base.unavailable_reason():
        print(f"not measured: {reason}")
        return
    with (
        tempfile.TemporaryDirectory() as name,
        Machines(Path(name) / "lab") as lab,
        lab.on_network(),
    ):
        os.environ |= lab.env
        project = LabProject(Path(name), lab)
        begin = time.monotonic()
        project.apply()
        wait_for_first_result(project.client)
        apply_seconds = time.monotonic() - begin
        state = State.model_validate_json((project.folder / "planapply.state.json").read_bytes())
        bare_seconds = time_bare_boot(project, state)
    print(f"apply to the first result   {apply_seconds:5.1f} s")
    print(f"bare boot of the same       {bare_seconds:5.1f} s")
    print(f"1.5 times that, and 3 s     {1.5 * bare_seconds + 3:5.1f} s: what an apply may take")
    print(f"ratio                       {apply_seconds / bare_seconds:5.2f}")


def wait_for_first_result(connect: Callable[[], AbstractContextManager[Any]]) -> None:
    """Wait until all workers have joined and one task is done."""
    with connect() as client:
        client.wait_for_workers(WORKERS, timeout=120)
        assert client.submit(sum, [1, 2]).result(60) == 3


def time_bare_boot(project: LabProject, state: State) -> float:
    """Return the seconds to boot the same machines at their old addresses, after the first ones are gone."""
    from distributed import Client

    from planapply.dask.scheduler import build_security

    ec2: Any = boto3.client("ec2")
    vms = {vm["id"]: vm for vm in project.cloud.instances()}
    groups = vms[state.nodes[SCHEDULER].vm]["groups"]
    ec2.terminate_instances(InstanceIds=[record.vm for record in state.nodes.values()])
    wait_until(lambda: not project.cloud.machines(), "the end of the machines")
    zone = [{"Name": "availability-zone", "Values": [state.nodes[SCHEDULER].zone]}]
    subnet = ec2.describe_subnets(Filters=zone)["Subnets"][0]["SubnetId"]
    address = state.nodes[SCHEDULER].private_address
    assert state.endpoint is not None
    begin = time.monotonic()
    groups_of_nodes = {split_name(name)[0] for name in state.nodes}
    # The scheduler first: otherwise its old address may be given to another machine.
    for group in sorted(groups_of_nodes, key=lambda group: group != SCHEDULER):
        names = sorted(name for name in state.nodes if split_name(name)[0] == group)
        config = state.configs[state.nodes[names[0]].config]
        scheduler_address = None if group == SCHEDULER else state.endpoint.private
        network = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": groups}
        network |= {"AssociatePublicIpAddress": True}
        network |= {"PrivateIpAddress": address} if group == SCHEDULER else {}
        ec2.run_instances(
            ImageId=config.image,
            InstanceType=config.size[0],
            MinCount=len(names),
            MaxCount=len(names),
            UserData=build_user_data(
                config, names, scheduler_address, state.tls, cluster=state.cluster
            ),
            NetworkInterfaces=[network],
        )
    scheduler = next(vm for vm in project.cloud.instances() if vm["address"] == address)
    security = build_security(state.tls)
    url = f"tls://{scheduler['public_address']}:8786"
    wait_for_first_result(lambda: Client(url, security=security, timeout=120))  # type: ignore[no-untyped-call]
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
