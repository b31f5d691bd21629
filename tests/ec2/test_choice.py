"""Defaults and prices: the images and sizes that the provider chooses, and their costs."""

from typing import Any

import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud
from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends
from planapply_ec2 import PLUGIN
from planapply_ec2.price import find_on_demand_price
from planapply_ec2.settings import Settings

from planapply.model.diagnostics import PlanapplyError
from planapply.model.node import Requirements
from planapply.model.plan import Cost
from planapply.provider import (
    ErrorKind,
    ProviderError,
    SupportsChoose,
    SupportsPins,
    SupportsPrices,
)

GIB = 1 << 30


def images() -> dict[str, Any]:
    return dict(ec2_backends["123456789012"]["eu-west-1"].amis)


def used(project: Project) -> dict[str, str]:
    """Return the name of each group's image."""
    return {
        config.group: images()[config.image or ""].name
        for config in project.state().configs.values()
    }


def provider() -> Any:
    return PLUGIN.connect(Settings(region="eu-west-1"))


def test_current_debian_image_is_pinned(project: Project, aws: Cloud) -> None:
    project.apply()
    assert used(project) == {
        "scheduler": "debian-12-amd64-20250519-2116",
        "cpu": "debian-12-amd64-20250519-2116",
    }
    assert aws.counts()["actions"]["ssm:GetParameter"] == 1
    # Debian publishes a new image; an existing cluster keeps its image.
    aws.clear()
    aws.fault("ssm:*", error="ThrottlingException", times=None)
    assert project.plan().changes == ()
    assert project.apply("workers.cpu.count=5").failures == {}
    assert "ssm:GetParameter" not in aws.counts()["actions"]
    aws.clear()
    project.destroy()
    project.apply()
    assert "ssm:GetParameter" in aws.counts()["actions"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ParameterNotFound"])
def test_image_is_found_by_owner_and_name_without_ssm(
    project: Project, aws: Cloud, code: str
) -> None:
    aws.fault("ssm:GetParameter", error=code, times=None)
    project.apply()
    assert used(project)["cpu"] == "debian-12-amd64-20250519-2116"


def test_arm_and_gpu_sizes_get_matching_images(project: Project) -> None:
    project.add_lines("workers.arm", 'count = 1\nsize = "m7g.large"')
    project.add_lines("workers.gpu", 'count = 1\nsize = "g5.xlarge"')
    project.apply()
    assert used(project) == snapshot(
        {
            "scheduler": "debian-12-amd64-20250519-2116",
            "cpu": "debian-12-amd64-20250519-2116",
            "arm": "debian-12-arm64-20250519-2116",
            "gpu": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) x86_64 20250519",
        }
    )


def test_given_image_is_used_unchanged(project: Project, aws: Cloud) -> None:
    own = next(id for id, image in images().items() if image.architecture == "x86_64")
    project.apply(f"defaults.image='{own}'")
    assert {call["ImageId"] for call in project.calls("RunInstances")} == {own}
    assert "ssm:GetParameter" not in aws.counts()["actions"]


def test_missing_image_is_reported(project: Project, aws: Cloud) -> None:
    project.plan()
    aws.fault("ssm:GetParameter", error="ParameterNotFound", times=None)
    for image in images().values():
        image.architecture = "i386"
    assert project.plan_error() == snapshot("""\
there is no image 'debian-12-amd64-*' in eu-west-1
Set `image` under [defaults].\
""")


def test_cheapest_matching_sizes_are_chosen(project: Project) -> None:
    needs = {
        "cpus": Requirements(cpus=8),
        "memory": Requirements(cpus=8, memory=64 * GIB),
        "arch": Requirements(cpus=2, arch="arm64"),
        "gpus": Requirements(gpus=1),
    }
    chosen = {name: provider().choose(need) for name, need in needs.items()}
    assert chosen == snapshot(
        {
            "cpus": ["c6a.2xlarge", "c5a.2xlarge", "c6i.2xlarge"],
            "memory": ["r6a.2xlarge", "r5a.2xlarge", "r5ad.2xlarge"],
            "arch": ["c6g.large", "c7g.large", "c8g.large"],
            "gpus": ["g4dn.xlarge"],
        }
    )
    for names in chosen.values():
        prices = [find_on_demand_price(name, "eu-west-1").usd_per_hour for name in names]
        assert None not in prices
        assert prices == sorted(prices)  # type: ignore[type-var]


def test_requirements_without_a_matching_size_are_reported(project: Project, aws: Cloud) -> None:
    with pytest.raises(ProviderError) as raised:
        provider().choose(Requirements(cpus=96, memory=30_000 * GIB, gpus=4, arch="arm64"))
    assert raised.value.kind is ErrorKind.REJECTED
    assert str(raised.value) == snapshot("""\
no size in eu-west-1 has 96 CPUs, 30000 GiB of memory, 4 NVIDIA GPUs, the architecture arm64
Reduce the requirements, or name a `size`.\
""")


def test_chosen_sizes_are_kept(project: Project, aws: Cloud) -> None:
    project.write(project.spec.read_text().replace('size = "m6i.large"', "cpus = 2"))
    project.apply()
    sizes = {record.size for record in project.state().nodes.values()}
    assert sizes == snapshot({"c6a.large"})
    assert project.state().pins["sizes"] == snapshot(
        {"cpus=2": ["c6a.large", "c5a.large", "m5a.large"]}
    )
    aws.clear()
    assert project.plan().changes == ()
    assert "DescribeInstanceTypes" not in aws.counts()["actions"]
    # Other requirements are a new choice, which replaces the old one.
    changed = project.plan("defaults.cpus=4")
    assert list(changed.pins["sizes"]) == ["cpus=4"]
    assert changed.summary["destroy"] == 4


def test_nodes_whose_size_is_on_the_changed_list_are_kept(project: Project, aws: Cloud) -> None:
    aws.configure(capacity={"m6i.large/*": 3})
    sizes = ["m6i.large", "m5.large"]
    project.apply(f"workers.cpu.size={sizes}")
    old = [name for name, vm in project.launched().items() if vm["size"] == "m5.large"]
    assert len(old) == 1
    # A new Debian image is for new clusters only.
    image = used(project)
    parameters = ssm_backends["123456789012"]["eu-west-1"]._parameters
    debian = "/aws/service/debian/release/{}/latest/amd64"
    parameters[debian.format(12)][-1].value = parameters[debian.format(13)][-1].value
    longer = f"workers.cpu.size={[*sizes, 'c5.large']}"
    assert project.plan(longer).changes == ()
    assert project.apply(longer, "workers.cpu.count=4").failures == {}
    assert len(project.calls("TerminateInstances")) == 0
    assert used(project) == image
    shorter = project.plan("workers.cpu.count=4", "workers.cpu.size='m6i.large'").changes
    assert [change.name for change in shorter if change.action == "replace"] == [*old, "cpu-3"]
    # Other sizes need another image, so the VM is replaced.
    gpus = project.plan("workers.cpu.size=['m6i.large', 'm5.large', 'g5.xlarge']")
    assert [f.path for f in gpus.changes[0].fields] == ["size", "image"]


def test_default_size_has_a_known_price(project: Project) -> None:
    project.write(project.spec.read_text().replace('size = "m6i.large"', ""))
    made = project.plan()
    assert {config.size for config in made.configs.values()} == {("m6i.large",)}
    assert made.cost is not None
    assert made.cost.unknown == ()


def test_cost_of_a_plan(project: Project, aws: Cloud) -> None:
    made = project.plan()
    assert made.cost == snapshot(
        Cost(
            before=0.0,
            after=0.4708,
            source="on demand, libcloud prices of 2025-03-02",
            not_counted=("disks", "addresses", "traffic"),
        )
    )
    spot = project.plan("workers.cpu.spot=true", "workers.cpu.zones=['eu-west-1b']")
    assert spot.cost is not None
    assert spot.cost.source.startswith(
        "on demand, libcloud prices of 2025-03-02; spot, EC2 prices of 20"
    )
    assert made.cost is not None
    assert spot.cost.after is not None
    assert made.cost.after is not None
    assert 0.1 < spot.cost.after < made.cost.after


def test_unknown_price_is_not_zero(project: Project) -> None:
    project.add_lines("workers.cpu", 'size = "m7i.large"')
    made = project.plan()
    assert made.cost is not None
    assert made.cost.unknown == ("m7i.large",)
    assert made.cost.after == find_on_demand_price("m6i.large", "eu-west-1").usd_per_hour
    assert (
        find_on_demand_price("m7i.large", "eu-west-1").usd_per_hour is None
    )  # its price in the list is 0.0
    assert find_on_demand_price("m99.huge", "eu-west-1").usd_per_hour is None


def test_max_cost_is_enforced(project: Project, aws: Cloud) -> None:
    project.add_lines("cluster", "max_cost = 0.4")
    assert project.plan_error() == snapshot("""\
the cluster would cost 0.47 USD/h, more than `max_cost` (0.40)
Make the cluster smaller, or raise `max_cost` under [cluster].\
""")
    assert project.plan("workers.cpu.count=2").summary["add"] == 4


def test_spot_price_is_of_the_zone_or_the_highest(project: Project, aws: Cloud) -> None:
    prices = provider()
    by_zone = [prices.price("m6i.large", f"eu-west-1{z}", True).usd_per_hour for z in "abc"]
    assert prices.price("m6i.large", None, True).usd_per_hour == max(by_zone)
    calls = aws.counts()["actions"]["DescribeSpotPriceHistory"]
    assert prices.price("m6i.large", None, True).usd_per_hour == max(by_zone)
    assert aws.counts()["actions"]["DescribeSpotPriceHistory"] == calls


def test_provider_capabilities(project: Project) -> None:
    for capability in (SupportsChoose, SupportsPins, SupportsPrices):
        assert isinstance(provider(), capability)


def test_sizes_of_two_architectures_are_refused(project: Project) -> None:
    assert project.plan_error("workers.cpu.size=['m6i.large', 'm7g.large']") == snapshot("""\
cannot use sizes of different architectures in one group: m6i.large is x86_64, m7g.large is arm64
Choose sizes of one architecture, or use two groups.\
""")
    with pytest.raises(PlanapplyError):
        project.apply("workers.cpu.size=['m6i.large', 'm7g.large']")
