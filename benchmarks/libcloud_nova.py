"""Time of 100 nodes on Nova, compared with a plain loop of bare Libcloud in the same number of threads.

`make bench-nova` runs the real command, including its start, against OpenStack's own Nova on this
machine (tests/novalab, which is installed into the user's cache folder). The seconds depend on the
machine and the run; compare the ratio and the counts.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from libcloud.compute.providers import get_driver
from novalab.cloud import Cloud, serve
from planapply_libcloud.drivers.openstack import OPENSTACK

NODES, THREADS, ROUNDS = 100, OPENSTACK.parallel, 2
MAX_RATIO = 1.3


def time_libcloud(cloud: Cloud, nodes: int) -> float:
    """Return the seconds until all are accepted; each thread has its own driver, as Libcloud requires."""
    settings = cloud.settings
    drivers = [
        get_driver("openstack")(
            os.environ["OS_USERNAME"],
            os.environ["OS_PASSWORD"],
            api_version="2.2",
            **settings["options"],
        )
        for _ in range(THREADS)
    ]
    size = next(s for s in drivers[0].list_sizes() if s.name == "m1.tiny")
    image = next(i for i in drivers[0].list_images() if i.name == "fakeimage7")
    network = next(n for n in drivers[0].ex_list_networks() if n.name == "private")

    def loop(thread: int) -> None:
        for number in range(thread, nodes, THREADS):
            drivers[thread].create_node(
                name=f"plain-{number}",
                size=size,
                image=image,
                networks=[network],
                ex_metadata={f"planapply:tag-{tag}": "as many as planapply's" for tag in range(7)},
                ex_userdata="#!/bin/sh\n" + "x" * 2400,  # as long as planapply's
            )

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(loop, range(THREADS)))
    return time.perf_counter() - began


def time_planapply(cloud: Cloud, folder: Path) -> tuple[float, float]:
    """Return the seconds of an apply, and of a destroy."""
    (folder / "planapply.toml").write_text(cloud.spec(NODES - 1))
    seconds = []
    for command in (["apply", "--no-wait"], ["destroy"]):
        if command[0] == "destroy":
            cloud.wait_until_idle()
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "planapply", *command, "--auto-approve"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    return seconds[0], seconds[1]


def count_calls(cloud: Cloud) -> SimpleNamespace:
    """Return the number of calls of one apply and destroy, by kind."""
    return SimpleNamespace(
        creates=cloud.calls("POST", "/servers"),
        lists=cloud.calls("GET", "/servers/detail"),
        lookups=cloud.calls("GET", "/v2/images") + cloud.calls("GET", "/flavors/detail"),
    )


def main() -> int:
    with serve() as cloud, tempfile.TemporaryDirectory() as folder:
        os.environ.update(cloud.env)
        cloud.quota(-1)
        time_libcloud(cloud, THREADS)  # warms Nova up
        cloud.remove_all()
        best: dict[str, Any] = {}
        for _ in range(ROUNDS):
            bare = time_libcloud(cloud, NODES)
            cloud.remove_all()
            cloud.clear()
            planapply, destroy = time_planapply(cloud, Path(folder))
            counts = count_calls(cloud)
            print(
                f"{NODES} nodes, {THREADS} threads: bare Libcloud {bare:.1f} s, planapply {planapply:.1f} s "
                f"(x{planapply / bare:.2f}); destroy {destroy:.1f} s; {counts.creates} creates, "
                f"{counts.lists} lists, {counts.lookups} other looks"
            )
            best["bare"] = min(bare, best.get("bare", bare))
            best["ours"] = min(planapply, best.get("ours", planapply))
        ratio = best["ours"] / best["bare"]
        print(f"best of {ROUNDS}: x{ratio:.2f}, at most x{MAX_RATIO} is promised")
        return int(ratio > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
