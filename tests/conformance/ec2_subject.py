"""EC2 in the suite: the lab's EC2, which shows changes as late as AWS allows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from conformance.subjects import Account, Subject
from lab.fixtures import set_env
from lab.honest import Cloud, serve

from planapply.model.node import NodeConfig
from planapply.provider import ErrorKind, LaunchRequest

CODES = {
    ErrorKind.THROTTLED: "RequestLimitExceeded",
    ErrorKind.CAPACITY: "InsufficientInstanceCapacity",
    ErrorKind.QUOTA: "VcpuLimitExceeded",
    ErrorKind.UNAUTHORIZED: "UnauthorizedOperation",
    ErrorKind.REJECTED: "InvalidParameterValue",
    ErrorKind.TOKEN_SPENT: "IdempotentInstanceTerminated",
}


@contextmanager
def ec2(tmp_path: Path) -> Iterator[Subject]:
    from planapply_ec2 import PLUGIN, Settings

    cloud = Cloud(gaps=False, hidden_seconds=5.0, pending_seconds=10.0, ending_seconds=20.0)
    cloud.freeze()
    cloud.ec2.console = lambda id: f"booting {id}\nstarted\n".encode()
    with pytest.MonkeyPatch.context() as patch, serve(cloud):
        set_env(cloud.env, patch)
        ssm: Any = boto3.client("ssm")
        image = ssm.get_parameter(Name="/aws/service/debian/release/12/latest/amd64")
        worker = NodeConfig(
            group="cpu",
            cls="distributed.Worker",
            size=("m6i.large",),
            image=image["Parameter"]["Value"],
        )

        def failing_request(**fault: Any) -> Callable[[Account], LaunchRequest]:
            def make(account: Account) -> LaunchRequest:
                request = account.request("cpu-0")
                cloud.fault("RunInstances", **fault)
                return request

            return make

        yield Subject(
            connect=lambda: PLUGIN.connect(Settings(region="eu-west-1")),
            wait=cloud.advance,
            worker=worker,
            failures={
                ErrorKind.UNKNOWN: failing_request(lost="before"),
                **{kind: failing_request(error=code) for kind, code in CODES.items()},
            },
            limit_capacity=lambda count: cloud.configure(capacity={"*": count}),
            visible_text=lambda vm: str(
                next(i | {"user_data": ""} for i in cloud.instances() if i["id"] == vm.id)
            ),
        )
        cloud.advance(60.0)
        assert cloud.instances() == []
