"""Errors: each problem is reported clearly, before anything is launched if possible."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud
from moto.ec2.models import ec2_backends

from planapply.model.diagnostics import PlanapplyError


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name in names:
            patch.delenv(name, raising=False)
        yield


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def test_missing_credentials_are_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without(monkeypatch, *KEYS):
        assert project.plan_error() == snapshot("""\
cannot find AWS credentials: Unable to locate credentials
Set AWS_PROFILE or `profile` under [provider], log in (aws sso login, aws configure), or run planapply where a role provides them.\
""")


def test_unknown_profile_is_reported(project: Project) -> None:
    assert project.plan_error("provider.profile='reserach'") == snapshot("""\
the config profile (reserach) could not be found
Correct `profile` under [provider], or AWS_PROFILE. Profiles in your AWS configuration: none.\
""")


def test_rejected_credentials_are_reported(project: Project, aws: Cloud) -> None:
    messages = {}
    for code in (
        *("ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure"),
        "AccessDenied",
    ):
        aws.clear()
        aws.fault("*", error=code, status=403, times=None, message="AWS says no.")
        messages[code] = project.plan_error()
    assert messages == snapshot(
        {
            "ExpiredToken": """\
DescribeInstanceTypes: AWS says no (ExpiredToken)
The credentials have expired. Log in again (for SSO: aws sso login), then retry.\
""",
            "InvalidClientTokenId": """\
DescribeInstanceTypes: AWS says no (InvalidClientTokenId)
AWS does not accept these credentials. Check AWS_ACCESS_KEY_ID, AWS_PROFILE, or `profile` under [provider], and that this region is enabled for the account.\
""",
            "SignatureDoesNotMatch": """\
DescribeInstanceTypes: AWS says no (SignatureDoesNotMatch)
Check that the secret key belongs to the access key, and that this machine's clock is correct.\
""",
            "AuthFailure": """\
DescribeInstanceTypes: AWS says no (AuthFailure)
AWS does not accept these credentials. Check AWS_ACCESS_KEY_ID, AWS_PROFILE, or `profile` under [provider], and that this region is enabled for the account.\
""",
            "AccessDenied": """\
DescribeInstanceTypes: AWS says no (AccessDenied)
Ask an administrator to allow this to your user or role; docs/ec2-iam.md has a sufficient policy.\
""",
        }
    )


def test_missing_region_is_reported(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(project.spec.read_text().replace('region = "eu-west-1"', ""))
    with without(monkeypatch, "AWS_REGION", "AWS_DEFAULT_REGION"):
        assert project.plan_error() == snapshot("""\
no AWS region is set
Write region = "eu-west-1" (or another) under [provider], or set AWS_REGION.\
""")


def test_unknown_region_is_reported(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # No server listens there; the result is as for a name that does not resolve.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    messages = {}
    for region in ("eu-wset-1", "moon", "not a region"):
        messages[region] = project.plan_error(f"provider.region='{region}'")
    assert messages == snapshot(
        {
            "eu-wset-1": """\
there is no AWS region 'eu-wset-1'
Did you mean 'eu-west-1'?\
""",
            "moon": """\
there is no AWS region 'moon'
AWS's documentation lists the regions and their names.\
""",
            "not a region": """\
there is no AWS region 'not a region'
AWS's documentation lists the regions and their names.\
""",
        }
    )


def test_offline_machine_is_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch, aws: Cloud
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert project.plan_error() == snapshot(
        """\
cannot reach AWS: Could not connect to the endpoint URL: "http://127.0.0.1:9/"
Check that this machine is online. Behind a proxy, set HTTPS_PROXY.\
"""
    )


def test_lost_connection_is_retried(project: Project, aws: Cloud) -> None:
    aws.fault("DescribeInstanceTypes", lost="before", times=3)
    assert project.plan().summary["add"] == 5


PAGES = {
    "nginx": "<html>\n<head><title>502 Bad Gateway</title></head>\n<body><hr>nginx</body></html>",
    "doctype": "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><hr></html>",
    "xml": "<html><head><title>502 Bad Gateway</title></head><body/></html>",
}


@pytest.mark.parametrize("status", [200, 403, 502])
@pytest.mark.parametrize("page", PAGES)
def test_answer_from_a_proxy_is_reported(
    project: Project, aws: Cloud, page: str, status: int
) -> None:
    # A short outage: the call is repeated, and no VM is launched twice.
    for action in ("DescribeInstanceTypes", "CreateSecurityGroup", "RunInstances"):
        aws.fault(action, page=PAGES[page], status=status, lost="after")
    assert project.apply().failures == {}
    assert len(aws.instances()) == 4
    assert project.plan().changes == ()
    # A permanent outage.
    aws.fault("DescribeInstances", page=PAGES[page], status=status, times=None)
    assert project.plan_error() == snapshot("""\
unexpected response for region 'eu-west-1', possibly from a proxy: 502 Bad Gateway
Check HTTPS_PROXY, AWS_ENDPOINT_URL, and `region` under [provider].\
""")


def test_proxy_that_blocks_launches_is_reported(project: Project, aws: Cloud) -> None:
    aws.fault("RunInstances", page="<!DOCTYPE html><p>Log in & pay<br></p>", times=None)
    failures = project.apply().failures
    assert str(failures["scheduler"]) == snapshot("""\
scheduler: unexpected response for region 'eu-west-1', possibly from a proxy: Log in & pay
Check HTTPS_PROXY, AWS_ENDPOINT_URL, and `region` under [provider].\
""")
    aws.clear()
    assert project.apply().failures == {}
    assert len(aws.instances()) == 4


def test_document_of_another_service_is_reported(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK IA")  # no service can find its name in the header
    assert project.plan_error() == snapshot("""\
unexpected response for region 'eu-west-1', possibly from a proxy
Check HTTPS_PROXY, AWS_ENDPOINT_URL, and `region` under [provider].\
""")


def test_unknown_image_is_reported(project: Project) -> None:
    assert project.plan_error("workers.cpu.image='ami-0123456789abcdef0'") == snapshot("""\
there is no image ami-0123456789abcdef0 in eu-west-1 that this account may use
Choose another `image`: its ID differs between regions, and old images are deleted.\
""")


def test_image_of_another_architecture_is_reported(project: Project) -> None:
    project.plan()
    images = ec2_backends["123456789012"]["eu-west-1"].amis
    arm = next(i for i in images.values() if i.name.startswith("debian-12-arm64"))
    assert project.plan_error(f"workers.cpu.image='{arm.id}'").replace(arm.id, "ami-…") == snapshot("""\
cpu: image ami-… is for arm64, but m6i.large is x86_64
Choose an `image` and a `size` of the same architecture.\
""")


def test_too_small_disk_is_reported(project: Project) -> None:
    found = boto3.client("ec2").describe_images(
        Filters=[{"Name": "architecture", "Values": ["x86_64"]}]
    )["Images"]
    image = next(i for i in found if i["BlockDeviceMappings"][0]["Ebs"].get("VolumeSize") == 15)
    message = project.plan_error(
        f"workers.cpu.image='{image['ImageId']}'", "workers.cpu.disk='10 GiB'"
    )
    assert message.replace(image["ImageId"], "ami-…") == snapshot("""\
cpu: image ami-… needs a disk of 15 GiB
Write disk = "15 GiB" or more, or remove `disk`.\
""")


def test_too_large_disk_is_reported(project: Project) -> None:
    assert project.plan_error("workers.cpu.disk='65 TiB'") == snapshot("""\
cpu: EC2 has no disk larger than 65,536 GiB
Reduce `disk`, or remove it to use the image's disk size.\
""")
    assert project.plan("workers.cpu.disk='64 TiB'").summary["add"] == 5


def test_image_without_dask_is_reported(project: Project) -> None:
    text = project.spec.read_text().replace('packages = ["dask[distributed]", "bokeh"]', "")
    project.write(text)
    assert project.plan_error() == snapshot("""\
Debian's image has no Dask, and [environment] does not install it
Under [environment], write packages = "client" for the packages of this Python, or a list of packages, or `docker`. Or set `image` to an image with Dask.\
""")
    # `setup` may install Dask.
    assert project.plan("environment.setup=['pip install dask']").summary["add"] == 5


def test_unknown_size_is_reported(project: Project) -> None:
    assert project.plan_error("workers.cpu.size='m6i.larg'") == snapshot("""\
there is no size m6i.larg in eu-west-1
Did you mean 'm6i.large', 'm6in.large' or 'm6id.large'?\
""")
    assert project.plan_error("workers.cpu.size=['m6i.large', 'qqqqqq']") == snapshot("""\
there is no size qqqqqq in eu-west-1
AWS's documentation lists the instance types.\
""")


def test_unknown_zone_is_reported(project: Project) -> None:
    assert project.plan_error("workers.cpu.zones=['eu-west-1d', 'us-east-1a']") == snapshot("""\
cpu: the VPC has no subnet in zone 'eu-west-1d'
In `zones`, list only zones with subnets: eu-west-1a, eu-west-1b, eu-west-1c.
cpu: the VPC has no subnet in zone 'us-east-1a'
In `zones`, list only zones with subnets: eu-west-1a, eu-west-1b, eu-west-1c.\
""")


def test_unknown_default_zone_is_reported_once(project: Project) -> None:
    assert project.plan_error("defaults.zones=['eu-wset-1a']") == snapshot("""\
scheduler, cpu: the VPC has no subnet in zone 'eu-wset-1a'
In `zones`, list only zones with subnets: eu-west-1a, eu-west-1b, eu-west-1c.\
""")


def test_size_not_offered_in_the_zones_is_reported(project: Project) -> None:
    message = project.plan_error("workers.cpu.size='a1.large'", "workers.cpu.zones=['eu-west-1a']")
    assert message == snapshot("""\
cpu: a1.large is not offered in eu-west-1a
Choose another `size`, or other `zones`: eu-west-1b, eu-west-1c.\
""")


def test_groups_without_a_common_zone_are_reported(project: Project) -> None:
    """hpc7a is offered in one zone only, but the scheduler must run in another."""
    message = project.plan_error(
        "workers.cpu.size='hpc7a.12xlarge'", "scheduler.zones=['eu-west-1a']"
    )
    assert message == snapshot("""\
no zone offers a size for every group, but workers run in the scheduler's zone
Zones with the sizes of each group: scheduler: eu-west-1a, eu-west-1b, eu-west-1c; cpu: eu-west-1b. Set `zones` for the groups that may run in another zone (traffic between zones costs money), or choose other sizes.\
""")
    apart = ("workers.cpu.zones=['eu-west-1b']", "scheduler.zones=['eu-west-1a']")
    assert project.plan("workers.cpu.size='hpc7a.12xlarge'", *apart).summary["add"] == 5


def test_unknown_key_pair_is_reported(project: Project) -> None:
    assert project.plan_error("provider.key_name='laptop'") == snapshot("""\
there is no key pair 'laptop' in eu-west-1
Key pairs here: none. Correct `key_name` under [provider], or remove it.\
""")
    for name in ("my-laptop", "desk"):
        boto3.client("ec2").create_key_pair(KeyName=name)
    assert project.plan_error("provider.key_name='laptop'") == snapshot("""\
there is no key pair 'laptop' in eu-west-1
Did you mean 'my-laptop'? Key pairs here: desk, my-laptop. Correct `key_name` under [provider], or remove it.\
""")


def test_too_large_user_data_is_reported(project: Project) -> None:
    # Random text does not compress.
    import random

    source = random.Random(1)
    lines = [f"p{i}=={source.getrandbits(120)}" for i in range(1000)]
    requirements = project.spec.with_name("requirements.txt")
    requirements.write_text("\n".join(lines))
    text = project.spec.read_text()
    project.write(
        text.replace(
            'packages = ["dask[distributed]", "bokeh"]', 'requirements = "requirements.txt"'
        )
    )
    message = project.plan_error()
    assert [line.partition(":")[0] for line in message.splitlines()[::2]] == snapshot(
        [
            "user data for group scheduler is too large",
            "user data for group cpu is too large",
        ]
    )
    assert message.splitlines()[1] == snapshot(
        "Shorten `requirements`, `packages`, `setup`, or `options`; or use a container (`docker`) or an `image` that contains the packages."
    )


def test_invalid_tags_are_reported(project: Project) -> None:
    assert project.plan_error("cluster.tags={'aws:team'='bio'}") == snapshot("""\
tag 'aws:team' is reserved by AWS
Use another key.\
""")
    tags = ", ".join(f"t{i} = 'x'" for i in range(43))
    assert project.plan_error(f"workers.cpu.tags={{{tags}}}") == snapshot("""\
cpu has 43 tags, but EC2 allows 50 per VM and planapply needs 8 of them
Remove tags until at most 42 are left.\
""")


def test_all_problems_are_reported_at_once(project: Project) -> None:
    message = project.plan_error(
        "provider.key_name='laptop'",
        "workers.cpu.zones=['eu-west-1x']",
        "workers.cpu.image='ami-0123456789abcdef0'",
        "scheduler.tags={'AWS:x'='y'}",
    )
    assert message.splitlines()[::2] == snapshot(
        [
            "cpu: the VPC has no subnet in zone 'eu-west-1x'",
            "there is no key pair 'laptop' in eu-west-1",
            "tag 'AWS:x' is reserved by AWS",
            "there is no image ami-0123456789abcdef0 in eu-west-1 that this account may use",
        ]
    )


def test_denied_launch_is_reported(project: Project, aws: Cloud) -> None:
    message = "You are not authorized to perform this operation."
    aws.fault("RunInstances", error="UnauthorizedOperation", status=403, message=message)
    assert str(project.apply().failures["scheduler"]) == snapshot("""\
scheduler: RunInstances: You are not authorized to perform this operation (UnauthorizedOperation)
Ask an administrator to allow this to your user or role; docs/ec2-iam.md has a sufficient policy.\
""")
    assert list(project.state().resources) == ["security-group"]
    assert project.state().intents == {}
    project.destroy()
    assert project.state().is_empty


def test_denied_security_group_is_reported(project: Project, aws: Cloud) -> None:
    aws.fault("CreateSecurityGroup", error="UnauthorizedOperation", status=403)
    with pytest.raises(PlanapplyError) as raised:
        project.apply()
    assert str(raised.value) == snapshot("""\
CreateSecurityGroup: set by the lab (UnauthorizedOperation)
Ask an administrator to allow this to your user or role; docs/ec2-iam.md has a sufficient policy.\
""")
    assert aws.instances() == []
    project.destroy()
    assert project.state().is_empty


def test_quota_error_is_reported_once_for_all_nodes(project: Project, aws: Cloud) -> None:
    aws.configure(vcpus={"m/on-demand": 4})
    failures = project.apply("defaults.zones=['eu-west-1a']").failures
    assert list(failures) == ["cpu-1", "cpu-2"]
    assert len(project.launched()) == 2
    aws.configure(vcpus={})
    assert project.apply("defaults.zones=['eu-west-1a']").failures == {}
    assert len(aws.instances()) == 4


def test_state_of_another_account_is_refused(project: Project, aws: Cloud) -> None:
    project.apply()
    state = project.state()
    path = Path(project.workspace().store.location)
    path.write_text(path.read_text().replace(state.cloud["account"], "999999999999"))
    with pytest.raises(PlanapplyError) as raised:
        project.plan()
    assert str(raised.value) == snapshot("""\
the state of cluster 'genomics' belongs to another cloud
account is 123456789012, but the state was made with 999999999999. Use the account, region, or machine that it was made with.\
""")
