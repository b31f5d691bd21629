"""Other drivers: without an entry in the table, unknown to Libcloud, or Libcloud's own for tests."""

import re
from pathlib import Path

import pytest
from cli.commands import Run
from conformance.subjects import Account, Subject, libcloud_provider
from httpstub.acme_driver import AcmeDriver, install
from inline_snapshot import snapshot
from libcloud.compute.types import NodeState

from planapply.model.node import NodeConfig
from planapply.provider import ErrorKind, ProviderError

APPLY = ("apply", "--auto-approve", "--no-wait", "--no-retire")
SPEC = """\
[cluster]
name = "genomics"
provider = "libcloud"
security = "none"
ttl = "8 h"

[provider]
driver = "acme"
key = "env:ACME_KEY"
create = { acme_network = "n-1" }

[defaults]
size = "Acme 2"
image = "dask"

[workers.cpu]
count = 2
create = { ex_rack = 7 }
"""


@pytest.fixture(autouse=True)
def acme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setenv("ACME_KEY", "the-key")


def spec(old: str = "", new: str = "") -> None:
    assert old in SPEC
    Path("planapply.toml").write_text(SPEC.replace(old, new))


def test_unknown_driver_works_and_the_plan_reports_its_limits(run: Run) -> None:
    spec()
    planned = run("plan")
    assert planned.code == 0
    assert planned.err == snapshot("""\

Warning: planapply does not know Libcloud's driver 'acme'
  planapply passes a name, a size, and an image to its create_node; put other required arguments in
  `create` under [provider].

Warning: the acme driver does not support user data
  The image must start Dask itself, and must know the scheduler's address.

Warning: the acme driver does not support tags
  planapply finds VMs by their names: do not rename them.

Warning: on acme, a VM that powers off costs as much as a running VM
  `ttl`, `idle_timeout`, and `no_client_timeout` only power VMs off. Run `planapply destroy` to
  delete them.
""")
    assert run(*APPLY).code == 0
    assert sorted(want["rack"] for want in AcmeDriver.create_calls) == [0, 7, 7]
    assert {want["network"] for want in AcmeDriver.create_calls} == {"n-1"}
    assert run("plan", "--detailed-exitcode").code == 0
    spec('size = "Acme 2"', 'size = ["Acme 1", "Acme 2"]')
    assert run("plan", "--detailed-exitcode").code == 0
    spec()
    Path("planapply.state.json").unlink()
    assert run("recover").code == 0
    assert run("destroy", "--auto-approve").code == 0
    assert AcmeDriver.nodes == {}


def test_vms_that_have_powered_off_are_replaced_or_destroyed(run: Run) -> None:
    spec()
    assert run(*APPLY).code == 0
    old = set(AcmeDriver.nodes)
    for name, node in AcmeDriver.nodes.items():
        if "scheduler" not in name:
            node.state = NodeState.STOPPED
    assert "Drift: cpu-[0-1] have terminated, by themselves" in run("status").out
    assert run(*APPLY).code == 0
    assert len(AcmeDriver.nodes) == 3
    assert len(old & set(AcmeDriver.nodes)) == 1
    for node in AcmeDriver.nodes.values():
        node.state = NodeState.STOPPED
    assert run("destroy", "--auto-approve").code == 0
    assert AcmeDriver.nodes == {}


def test_bare_exception_leaves_an_open_intent(run: Run) -> None:
    # The driver sends no HTTP that could be recorded: the result of a failed create is unknown.
    spec("count = 2", "count = 0")
    AcmeDriver.failures.append(Exception("the rack is on fire"))
    provider = libcloud_provider({"driver": "acme", "key": "env:ACME_KEY"})
    worker = NodeConfig(
        group="cpu",
        cls="distributed.Nanny",
        size=("Acme 1",),
        image="dask",
        provider={"create": {"acme_network": "n-1"}},
    )
    account = Account(Subject(connect=lambda: provider, worker=worker))
    with pytest.raises(ProviderError, match="the rack is on fire") as raised:
        account.launch("cpu-0")
    assert raised.value.kind is ErrorKind.UNKNOWN


WRONG = [
    ('driver = "acme"', 'driver = "opnstack"'),
    ('driver = "acme"', 'driver = "GCE"'),
    ('driver = "acme"', 'driver = "qqqq"'),
    ('driver = "acme"', 'driver = "readonly"'),
    ('driver = "acme"', 'driver = "azure"'),
    ('key = "env:ACME_KEY"', 'key = "env:ACME_KYE"'),
    ('key = "env:ACME_KEY"', 'key = "s3cr3t"'),
    ('key = "env:ACME_KEY"', 'key = "env:ACME_KEY"\noptions = { password = "s3cr3t" }'),
    ('key = "env:ACME_KEY"', 'key = "env:ACME_KEY"\noptions = { regin = "mars" }'),
    ('{ acme_network = "n-1" }', '{ acme_network = "n-1", ex_admin_pass = "s3cr3t" }'),
    ('{ acme_network = "n-1" }', '{ acme_network = "n-1", more = { api_key = "s3cr3t" } }'),
    ('{ acme_network = "n-1" }', '{ acme_network = "n-1", ex_rack = "env:ACME_KYE" }'),
    ("create = { ex_rack = 7 }", 'create = { ex_rack = 7, acme_token = "s3cr3t" }'),
    ('create = { acme_network = "n-1" }', ""),
    ('create = { acme_network = "n-1" }', 'create = { acme_netwrk = "n-1" }'),
    ('create = { acme_network = "n-1" }', 'create = { acme_network = "n-1", name = "x" }'),
    ('create = { acme_network = "n-1" }', 'create = { acme_network = "1" }\nallow_from = ["me"]'),
    ('size = "Acme 2"', 'size = "Acme 3"'),
    ('size = "Acme 2"', "cpus = 8"),
    ('size = "Acme 2"', "gpus = 1"),
    ('size = "Acme 2"', ""),
    ('image = "dask"', 'image = "dusk"'),
    ('image = "dask"', ""),
    ('image = "dask"', 'image = "dask"\ndisk = "50 GiB"\nspot = true'),
    ("count = 2", 'count = 2\ntags = { team = "bio" }'),
]


def test_each_problem_is_reported_once(run: Run) -> None:
    output = []
    for old, new in WRONG:
        spec(old, new)
        result = run("plan")
        assert result.code == 1
        output.append(f"--- {new or f'without {old}'}\n{result.err}")
        assert "s3cr3t" not in result.err
    text = "".join(output).replace(
        "'regin'. Did you mean 'region'?", "'regin'"
    )  # Python 3.13 adds it
    assert text == snapshot("""\
--- driver = "opnstack"
Error: `provider.driver`: Libcloud has no driver 'opnstack'
 --> planapply.toml:8:1
  |
8 | driver = …
  | ^^^^^^
  Did you mean 'openstack' or 'cloudstack'?
--- driver = "GCE"
Error: `provider.driver`: Libcloud has no driver 'GCE'
 --> planapply.toml:8:1
  |
8 | driver = …
  | ^^^^^^
  Did you mean 'gce'?
--- driver = "qqqq"
Error: `provider.driver`: Libcloud has no driver 'qqqq'
 --> planapply.toml:8:1
  |
8 | driver = …
  | ^^^^^^
  planapply knows openstack, gce, azure_arm, ec2, digitalocean, linode, vultr, scaleway,
  equinixmetal, exoscale, cloudstack, ovh, upcloud, kamatera, dummy; Libcloud's documentation lists
  all others.
--- driver = "readonly"
Error: cannot use Libcloud's driver 'readonly': it cannot create nodes
  Choose another `driver` under [provider].
--- driver = "azure"
Error: Microsoft Azure: its driver missing 3 required positional arguments: 'tenant_id',
'subscription_id', and 'secret'
  Check `options` and `create` in the spec against Libcloud's documentation of this driver.
--- key = "env:ACME_KYE"
Error: environment variable ACME_KYE is not set
  Set it, then retry: [provider] uses it for acme's credentials.
--- key = "s3cr3t"
Error: `provider.key`: a spec must not contain credentials
 --> planapply.toml:9:1
  |
9 | key = …
  | ^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
--- key = "env:ACME_KEY"
options = { password = "s3cr3t" }
Error: `provider.options.password`: a spec must not contain credentials
  --> planapply.toml:10:11
   |
10 | options = …
   |           ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
--- key = "env:ACME_KEY"
options = { regin = "mars" }
Error: acme: its driver got an unexpected keyword argument 'regin'
  Check `options` and `create` in the spec against Libcloud's documentation of this driver.
--- { acme_network = "n-1", ex_admin_pass = "s3cr3t" }
Error: `provider.create.ex_admin_pass`: a spec must not contain credentials
  --> planapply.toml:10:10
   |
10 | create = …
   |          ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
--- { acme_network = "n-1", more = { api_key = "s3cr3t" } }
Error: `provider.create.more.api_key`: a spec must not contain credentials
  --> planapply.toml:10:10
   |
10 | create = …
   |          ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
--- { acme_network = "n-1", ex_rack = "env:ACME_KYE" }
Error: environment variable ACME_KYE is not set
  Set it, then retry: [provider] uses it for acme's credentials.
--- create = { ex_rack = 7, acme_token = "s3cr3t" }
Error: `workers.cpu.create.acme_token`: a spec must not contain credentials
  --> planapply.toml:18:10
   |
18 | create = …
   |          ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
--- without create = { acme_network = "n-1" }
Error: create_node of 'acme' requires 'acme_network'
  Set `acme_network` under [provider.create].
--- create = { acme_netwrk = "n-1" }
Error: create_node of 'acme' has no argument 'acme_netwrk'
  Did you mean 'acme_network'?

Error: create_node of 'acme' requires 'acme_network'
  Set `acme_network` under [provider.create].
--- create = { acme_network = "n-1", name = "x" }
Error: `create` cannot contain `name`
  Remove it: planapply sets it from the other keys.
--- create = { acme_network = "1" }
allow_from = ["me"]
Error: `provider.allow_from`: `me` is not a network
  --> planapply.toml:11:1
   |
11 | allow_from = …
   | ^^^^^^^^^^
  Write a network such as "203.0.113.0/24", or an address.
--- size = "Acme 3"
Error: there is no size 'Acme 3'
  Did you mean 'Acme 4', 'Acme 2' or 'Acme 1'?
--- cpus = 8
Error: acme has no size that meets `cpus` and `memory`
  Reduce them, or set `size`.
--- gpus = 1
Error: the acme driver does not report GPUs and architectures of sizes
  Set `size` instead of `gpus` and `arch`.
--- without size = "Acme 2"
Error: no `size` is set, and acme has no default size
  Set `size` under [defaults], or requirements: cpus = 2, memory = "4 GiB".
--- image = "dusk"
Error: there is no image 'dusk'
  Did you mean 'dask'?
--- without image = "dask"
Error: scheduler has no image
  Set `image` under [defaults] to the name or ID of an image with cloud-init and Python 3.

Error: cpu has no image
  Set `image` under [defaults] to the name or ID of an image with cloud-init and Python 3.
--- image = "dask"
disk = "50 GiB"
spot = true
Error: the acme driver does not support spot VMs
  Remove `spot`.

Error: the acme driver does not support a size of the root disk
  Remove `disk`. Choose a size with a larger disk, or an argument in `create`, instead.
--- count = 2
tags = { team = "bio" }
Error: acme does not support tags
  Change or remove `tags`.
""")


def test_sizes_are_chosen_by_requirements(run: Run) -> None:
    spec('size = "Acme 2"', 'cpus = 2\nmemory = "1 GiB"')
    assert "Acme 2" in run("plan").out


def test_secret_create_argument_is_read_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec("create = { ex_rack = 7 }", 'create = { ex_rack = "env:ACME_RACK" }')
    monkeypatch.setenv("ACME_RACK", "s3cr3t")
    assert run(*APPLY).code == 0
    assert sorted(str(want["rack"]) for want in AcmeDriver.create_calls) == [
        "0",
        "s3cr3t",
        "s3cr3t",
    ]
    assert "s3cr3t" not in Path("planapply.state.json").read_text()
    monkeypatch.delenv("ACME_RACK")
    assert run("destroy", "--auto-approve").code == 0
    assert AcmeDriver.nodes == {}


def test_name_that_cannot_hold_the_tags_is_refused(run: Run) -> None:
    Path("planapply.toml").write_text(SPEC.replace('"genomics"', '"Genomics"'))
    result = run(*APPLY)
    assert result.code == 1
    output = re.sub(r"[0-9a-f]{20}-[0-9a-f]{8}", "TOKEN-LINEAGE", result.err)
    assert output[output.index("Error:") :] == snapshot("""\
Error: scheduler: cannot use Genomics-scheduler-TOKEN-LINEAGE09 as the name of a VM
  This driver does not support tags, so the VM's name has to identify it. In the names of the
  cluster and its groups, use only lowercase letters, digits, and hyphens, at most 30 characters in
  total.

Error: cpu-[0-1] was not launched: the cluster has no scheduler
""")
    assert AcmeDriver.nodes == {}


def test_libcloud_dummy_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its nodes exist in one object only, so the test runs in one process.
    provider = libcloud_provider({"driver": "dummy", "key": "0"}, consistency_delay=0.0)
    worker = NodeConfig(group="cpu", cls="distributed.Nanny", size=("Small",), image="1")
    account = Account(Subject(connect=lambda: provider, worker=worker))
    assert provider.check([worker]) == []
    vms = account.launch("cpu-0", "cpu-1").vms
    assert [vm.name for vm in account.find()] == ["cpu-0", "cpu-1"]
    assert provider.find({"planapply:lineage": "of-nobody"}) == []
    assert provider.find({"planapply:batch": vms[1].batch})[0].id == vms[1].id
    assert list(provider.terminate([vms[0].id, "99"])) == ["99"]
    assert [vm.name for vm in account.find()] == ["cpu-1"]
    account.terminate_all()
