"""Comparison of dask-cloudprovider and planapply, creating and destroying a cluster on the same EC2 (tests/lab).

`make bench-cloud` prints the calls and the seconds. No machine boots. Each measurement is a whole
process, from its start to its exit. `--limits` enforces EC2's request limits as AWS documents them.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

VERSION = "2025.9.0"
SIZES = (10, 50, 200)
SIZE, IMAGE = "m6i.large", "/aws/service/debian/release/12/latest/amd64"
SPEC = f"""
[cluster]
name = "bench"
provider = "ec2"
[provider]
region = "eu-west-1"
[defaults]
size = "{SIZE}"
[environment]
docker = "daskdev/dask:latest"
[workers.cpu]
count = COUNT
"""


def cloudprovider_python() -> Path:
    """Return a Python with dask-cloudprovider, installed into the user's cache folder."""
    import platformdirs

    dask = metadata.version("distributed")
    folder = platformdirs.user_cache_path("planapply-bench") / f"cloudprovider-{VERSION}-{dask}"
    python, done = folder / "bin/python", folder / "done"
    if not done.exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = [f"dask-cloudprovider[aws]=={VERSION}", f"distributed=={dask}"]
        subprocess.run([*pip, *requirements], check=True)
        done.touch()
    return python


async def run_ec2_cluster(workers: int, image: str, group: str) -> None:
    """Start and close an EC2Cluster with `workers` workers, in the Python of dask-cloudprovider.

    EC2Cluster waits for its scheduler. No machine boots here, so a local scheduler replaces it. The
    workers never join, and EC2Cluster does not wait for them. The security group and the image are
    passed because EC2Cluster cannot create the one, and looks for an Ubuntu image that moto does not
    have.
    """
    from dask_cloudprovider.aws import EC2Cluster
    from dask_cloudprovider.aws.ec2 import EC2Scheduler
    from distributed import Scheduler

    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as local:

        class LocalScheduler(EC2Scheduler):
            async def wait_for_scheduler(self) -> None:
                self.address = self.external_address = local.address

        class Cluster(EC2Cluster):
            async def _start(self) -> None:
                self.scheduler_class = LocalScheduler
                await super()._start()

        async with Cluster(
            n_workers=workers,
            region="eu-west-1",
            instance_type=SIZE,
            ami=image,
            security_groups=[group],
            security=False,
            asynchronous=True,
        ):
            # The parent process reads this, and sends a line to stop it.
            print("up", flush=True)
            await asyncio.to_thread(sys.stdin.readline)


def run_cloudprovider(workers: int, cloud: Any) -> list[tuple[dict[str, Any], float]]:
    """Return (calls, seconds) to create dask-cloudprovider's cluster, and to destroy it."""
    import boto3

    group = boto3.client("ec2").create_security_group(GroupName="dask", Description="dask")
    image = boto3.client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
    words = [
        str(cloudprovider_python()),
        __file__,
        "--theirs",
        str(workers),
        image,
        group["GroupId"],
    ]
    cloud.clear()
    start = time.perf_counter()
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        while (line := process.stdout.readline()) not in ("up\n", ""):
            pass
        up = (cloud.counts(), time.perf_counter() - start)
        cloud.clear()
        start = time.perf_counter()
        _, errors = process.communicate("\n")
    # It prints tracebacks of the local scheduler when that stops: only whether it came up counts.
    if line != "up\n":
        print(f"dask-cloudprovider failed at {workers} workers: {errors[-600:]}", file=sys.stderr)
    return [up, (cloud.counts(), time.perf_counter() - start)]


def run_planapply(workers: int, cloud: Any) -> list[tuple[dict[str, Any], float]]:
    """Return (calls, seconds) of the real commands to create planapply's cluster, and to destroy it."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "planapply.toml").write_text(SPEC.replace("COUNT", str(workers)))
        for words in (["apply", "--no-wait"], ["destroy"]):
            cloud.clear()
            start = time.perf_counter()
            command = [sys.executable, "-m", "planapply", *words, "--auto-approve"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            results.append((cloud.counts(), time.perf_counter() - start))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workers", type=int, nargs="*", default=SIZES)
    parser.add_argument("--limits", action="store_true", help="enforce EC2's request limits")
    parser.add_argument("--json", action="store_true", help="also print all counts, by action")
    parser.add_argument("--theirs", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        asyncio.run(run_ec2_cluster(int(options.theirs[0]), *options.theirs[1:]))
        return
    from lab.honest import Cloud, serve

    print(
        "| workers | tool | API calls to create | mutating calls | calls per worker | seconds "
        "| API calls to destroy | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for workers in options.workers:
        for name, run in (
            (f"dask-cloudprovider {VERSION}", run_cloudprovider),
            ("planapply", run_planapply),
        ):
            with serve(Cloud(throttle=options.limits)) as cloud:
                os.environ.update(cloud.env)
                (up, up_seconds), (down, down_seconds) = run(workers, cloud)
                missing = workers + 1 - up["actions"].get("RunInstances", 0)
                assert name == "planapply" or options.limits or not missing, up
                left = len(cloud.instances())
            if options.json:
                print(json.dumps({"up": up, "down": down}), file=sys.stderr)
            print(
                f"| {workers} | {name} | {up['all']} | {up['mutating']} | {up['all'] / workers:.1f} "
                f"| {up_seconds:.1f} | {down['all']} | {down_seconds:.1f} |",
                flush=True,
            )
            if left:
                print(f"{name} left {left} VMs", file=sys.stderr)


if __name__ == "__main__":
    main()
