"""The status of a cluster as it is printed."""

from typing import Any

from inline_snapshot import snapshot

from planapply.model.plan import DriftItem, DriftKind
from planapply.model.status import NodeStatus, Status, WorkerUsage
from planapply.render.status import status_lines
from planapply.render.text import to_plain_text


def node(name: str, **more: Any) -> NodeStatus:
    values = {"status": "running", "joined": 1, "vm": f"i-{name}", "age": 3725.0}
    return NodeStatus(name=name, **(values | more))


def text(width: int | None = None, **more: Any) -> str:
    values = {"cluster": "genomics", "provider": "ec2", "cloud": {"region": "eu-west-1"}}
    return to_plain_text(status_lines(Status(**(values | more)), width))


def test_complete_status() -> None:
    nodes = (
        node("scheduler", public_address="54.1.2.3", private_address="10.0.0.1", size="m7i.large"),
        node("cpu-0", private_address="10.0.0.2", size="m7i.large", zone="eu-west-1a", spot=True),
        node("cpu-1", joined=0),
        node("cpu-2", joined=3, processes=4),
        node("cpu-3", status="gone", joined=0, age=None),
        node("cpu-4", status="requested", vm=None, joined=0, age=None),
    )
    status: dict[str, Any] = {
        "scheduler_address": "tls://54.1.2.3:8786",
        "scheduler_answers": True,
        "dashboard_url": "http://54.1.2.3:8787/status",
        "time_left": {"idle_timeout": 1380.0, "no_client_timeout": 7200.0},
        "nodes": nodes,
        "usd_per_hour": 1.5,
        "usd_so_far": 4.6,
        "price_source": "on demand, libcloud prices of 2025-03-02",
        "unknown_workers": ("tcp://10.0.0.9:1234",),
        "drift": (
            DriftItem(name="cpu-3", kind=DriftKind.GONE, vm="i-cpu-3"),
            DriftItem(name="i-stray", kind=DriftKind.STRAY, vm="i-stray"),
        ),
        "lock": "me@host, process 1, has held it since 2025-03-02 12:00:00 UTC for apply (lock 1a).",
    }
    assert text(**status) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 1 of 5 worker nodes joined

  NODE        STATUS          AGE         SIZE                          ADDRESS    VM
  scheduler   answers         1 h 2 min   m7i.large                     54.1.2.3   i-scheduler
  cpu-0       joined          1 h 2 min   m7i.large  eu-west-1a  spot   10.0.0.2   i-cpu-0
  cpu-1       not joined      1 h 2 min                                            i-cpu-1
  cpu-2       3 of 4 joined   1 h 2 min                                            i-cpu-2
  cpu-3       gone                                                                 i-cpu-3
  cpu-4       requested

Scheduler:  tls://54.1.2.3:8786
Dashboard:  http://54.1.2.3:8787/status
Cost:       1.50 USD/h, 4.60 USD so far (on demand, libcloud prices of 2025-03-02)
Time left:  23 min until idle_timeout, 2 h until no_client_timeout
Drift: cpu-3 has terminated, by itself (ttl, idle_timeout, or a failure) or outside of planapply.
See `planapply logs cpu-3`; run `planapply plan` to see what an apply would do.
Drift: VMs that are not in the state: i-stray. The next `planapply apply` adopts them, and
terminates duplicates.
Workers that are no node of this state: tcp://10.0.0.9:1234
The state is locked: me@host, process 1, has held it since 2025-03-02 12:00:00 UTC for apply (lock
1a).
""")
    assert text(80, **status) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 1 of 5 worker nodes joined

  NODE        STATUS          AGE         SIZE                          ADDRESS
  scheduler   answers         1 h 2 min   m7i.large                     54.1.2.3
  cpu-0       joined          1 h 2 min   m7i.large  eu-west-1a  spot   10.0.0.2
  cpu-1       not joined      1 h 2 min
  cpu-2       3 of 4 joined   1 h 2 min
  cpu-3       gone
  cpu-4       requested

Scheduler:  tls://54.1.2.3:8786
Dashboard:  http://54.1.2.3:8787/status
Cost:       1.50 USD/h, 4.60 USD so far (on demand, libcloud prices of 2025-03-02)
Time left:  23 min until idle_timeout, 2 h until no_client_timeout
Drift: cpu-3 has terminated, by itself (ttl, idle_timeout, or a failure) or
outside of planapply. See `planapply logs cpu-3`; run `planapply plan` to see
what an apply would do.
Drift: VMs that are not in the state: i-stray. The next `planapply apply` adopts
them, and terminates duplicates.
Workers that are no node of this state: tcp://10.0.0.9:1234
The state is locked: me@host, process 1, has held it since 2025-03-02 12:00:00
UTC for apply (lock 1a).
""")


def test_scheduler_that_does_not_answer() -> None:
    nodes = (node("scheduler", joined=None), node("cpu-0", joined=None))
    assert text(scheduler_address="tls://54.1.2.3:8786", nodes=nodes) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): the scheduler does not answer

  NODE        STATUS    AGE         VM
  scheduler   running   1 h 2 min   i-scheduler
  cpu-0       running   1 h 2 min   i-cpu-0

Scheduler:  tls://54.1.2.3:8786
""")


def test_many_nodes_share_rows() -> None:
    nodes = (
        node("scheduler"),
        *(node(f"cpu-{i}", age=100.0 + i) for i in range(50)),
        node("cpu-50", joined=0),
    )
    assert text(scheduler_address="tcp://a:1", scheduler_answers=True, nodes=nodes) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 50 of 51 worker nodes joined

  NODE                STATUS       AGE                VM
  scheduler           answers      1 h 2 min          i-scheduler
  cpu-[0-49]   (50)   joined       up to 2 min 29 s
  cpu-50              not joined   1 h 2 min          i-cpu-50

Scheduler:  tcp://a:1
""")


def test_usage() -> None:
    gib = 2**30
    small = WorkerUsage(threads=2, memory=gib * 3 // 2, memory_limit=8 * gib, tasks=0)
    full = WorkerUsage(threads=8, memory=gib * 60, memory_limit=64 * gib, tasks=12345)
    no_limit = WorkerUsage(threads=1, memory=4096, memory_limit=0, tasks=3)
    nodes = (
        node("scheduler", size="m7i.large", public_address="54.1.2.3"),
        node("cpu-0", usage=small, size="m7i.large"),
        node("cpu-1", usage=full, size="r7i.2xlarge", zone="eu-west-1a", spot=True),
        node("cpu-2", usage=no_limit),
        node("cpu-3", usage=WorkerUsage(threads=1)),
        node("cpu-4", joined=0),
    )
    status: dict[str, Any] = {"scheduler_address": "a", "scheduler_answers": True, "nodes": nodes}
    for width in (80, 120):
        assert all(len(line) <= width for line in text(width, **status).splitlines())
    assert text(120, **status) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 4 of 5 worker nodes joined

  NODE        STATUS       AGE         SIZE                            THREADS   MEMORY                 TASKS
  scheduler   answers      1 h 2 min   m7i.large
  cpu-0       joined       1 h 2 min   m7i.large                       2         1.5 GiB of 8.0 GiB     0
  cpu-1       joined       1 h 2 min   r7i.2xlarge  eu-west-1a  spot   8         60.0 GiB of 64.0 GiB   12,345
  cpu-2       joined       1 h 2 min                                   1         4.0 KiB                3
  cpu-3       joined       1 h 2 min                                   1
  cpu-4       not joined   1 h 2 min

Scheduler:  a
""")
    assert text(80, **status) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 4 of 5 worker nodes joined

  NODE        STATUS       AGE         SIZE                            THREADS
  scheduler   answers      1 h 2 min   m7i.large
  cpu-0       joined       1 h 2 min   m7i.large                       2
  cpu-1       joined       1 h 2 min   r7i.2xlarge  eu-west-1a  spot   8
  cpu-2       joined       1 h 2 min                                   1
  cpu-3       joined       1 h 2 min                                   1
  cpu-4       not joined   1 h 2 min

Scheduler:  a
""")
    many = (node("scheduler"), *(node(f"cpu-{i}", usage=small) for i in range(50)))
    assert text(**status | {"nodes": many}) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): 50 of 50 worker nodes joined

  NODE                STATUS    AGE               THREADS   MEMORY                  TASKS   VM
  scheduler           answers   1 h 2 min                                                   i-scheduler
  cpu-[0-49]   (50)   joined    up to 1 h 2 min   100       75.0 GiB of 400.0 GiB   0

Scheduler:  a
""")


def test_empty_status() -> None:
    assert text() == snapshot('Cluster "genomics" (ec2, eu-west-1): no nodes\n')
    assert text(nodes=(node("cpu-0", joined=None),)) == snapshot("""\
Cluster "genomics" (ec2, eu-west-1): no scheduler

  NODE    STATUS    AGE         VM
  cpu-0   running   1 h 2 min   i-cpu-0
""")
    assert text(nodes=(node("scheduler"),), scheduler_address="a", scheduler_answers=True) == (
        snapshot("""\
Cluster "genomics" (ec2, eu-west-1): a scheduler without workers

  NODE        STATUS    AGE         VM
  scheduler   answers   1 h 2 min   i-scheduler

Scheduler:  a
""")
    )


def test_several_lost_nodes() -> None:
    drift = tuple(
        DriftItem(name=name, kind=DriftKind.GONE, vm=f"i-{name}") for name in ("cpu-0", "cpu-1")
    )
    assert text(drift=drift).partition("\n\n")[2] == snapshot("""\
Drift: cpu-[0-1] have terminated, by themselves (ttl, idle_timeout, or a failure) or outside of
planapply. See `planapply logs NODE`; run `planapply plan` to see what an apply would do.
""")


def test_long_and_many_names_of_unknown_workers_are_cut() -> None:
    names = ("z" * 5_000_000, *(f"w-{number}" for number in range(2000)))
    shown = text(unknown_workers=names)
    assert len(shown) < 600
    assert shown.split()[-3:] == ["and", "1,981", "more"]
