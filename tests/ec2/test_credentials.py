"""Credentials, profiles, and regions: one order everywhere, and no secret in an error."""

import base64
import traceback
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from ec2.project import Project
from inline_snapshot import snapshot
from lab.honest import Cloud
from planapply_ec2.client import Client

from planapply.cli import main
from planapply.model.diagnostics import PlanapplyError
from planapply.ops.plan import plan
from planapply.ops.workspace import Workspace
from planapply.provider import ProviderError
from planapply.store import AWSSettings, StateError, open_store
from planapply.store.bucket import open_bucket

ROOT = Path(__file__).parents[2]
SECRET = "Very/Secret+0123456789"
STATE = "s3://my-bucket/company-example.json"


@pytest.fixture
def bucket(aws: Cloud) -> Cloud:
    """An empty bucket."""
    request = urllib.request.Request(f"{aws.url}/my-bucket", b"", method="PUT")
    urllib.request.urlopen(request).close()
    return aws


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Cloud) -> str:
    """A profile, which alone has credentials."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile research]\nregion = eu-west-1\naws_access_key_id = lab\n"
        f"aws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return "research"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}\n"),
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}\r"),
        ("AWS_ACCESS_KEY_ID", "AKIA0000\r\n"),
        ("AWS_SESSION_TOKEN", f"{SECRET}\nX-Header: 1"),
        ("AWS_SECRET_ACCESS_KEY", f" {SECRET}"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1\n"),
        ("AWS_REGION", "eu-west-1\r"),
    ],
)
def test_malformed_variable_is_reported_before_use(
    project: Project, aws: Cloud, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    aws.calls.clear()
    monkeypatch.setenv(name, value)
    expected = (
        f"cannot use environment variable {name}: a line end, blank, or control character is in "
        "its value\nSet it again without that character; a value that was read from a file often "
        "ends in a line end."
    )
    for use in (project.plan, lambda: open_store(STATE).read(), lambda: Client(None, "eu-west-1")):
        with pytest.raises((PlanapplyError, ProviderError)) as raised:
            use()
        assert str(raised.value) == expected
        assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert aws.calls == []


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("gs", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ("az", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("az", "AZURE_CLIENT_SECRET"),
    ],
)
def test_malformed_variable_of_another_cloud(
    scheme: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"{SECRET}\n")
    with pytest.raises(StateError, match=f"environment variable {name}:") as raised:
        open_store(f"{scheme}://bucket/x.json").read()
    assert SECRET not in str(raised.value)


def test_malformed_credential_of_a_file(
    project: Project, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(config.read_text().replace(SECRET, f"{SECRET}\n  {SECRET}"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    for use in (project.plan, lambda: open_store(STATE).read()):
        with pytest.raises(PlanapplyError) as raised:
            use()
        assert str(raised.value) == snapshot("""\
cannot use the AWS credentials: a line end or control character is in a value
Correct them in the source that is in use (config-file).\
""")


@pytest.mark.parametrize(
    "encode", [str, repr, quote, lambda s: base64.b64encode(s.encode()).decode()]
)
def test_secret_in_an_error_is_masked(
    project: Project, aws: Cloud, monkeypatch: pytest.MonkeyPatch, encode: object
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    text = encode(SECRET)  # type: ignore[operator]
    aws.fault("*", error="SignatureDoesNotMatch", status=403, times=None, message=f"Got {text}.")
    with pytest.raises(PlanapplyError) as raised:
        project.plan()
    assert "SignatureDoesNotMatch" in str(raised.value)
    assert text not in "".join(traceback.format_exception(raised.value))
    assert "…" in str(raised.value)


def test_order_of_regions(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`region` under [provider], AWS_REGION, AWS_DEFAULT_REGION, the profile's region."""

    def regions(explicit: str | None = None) -> tuple[str, str]:
        found = open_bucket("s3", "b", "s3://b/x", AWSSettings(profile, "ap-south-1"))
        return Client(profile, explicit).region, str(found.config["region"])

    assert regions() == ("eu-west-1", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert regions() == ("eu-west-2", "eu-west-2")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert regions() == ("eu-west-3", "eu-west-3")
    # A bucket may be in another region than the VMs.
    assert regions("us-east-2") == ("us-east-2", "eu-west-3")
    monkeypatch.setenv("AWS_REGION", "")
    assert regions() == ("eu-west-2", "eu-west-2")


def test_region_of_a_bucket_without_any_other(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(config.read_text().replace("region = eu-west-1\n", ""))
    for settings, region in (
        (AWSSettings(profile, "ap-south-1"), "ap-south-1"),
        (AWSSettings(profile), "us-east-1"),
    ):
        assert open_bucket("s3", "b", "s3://b/x", settings).config["region"] == region


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_profile_that_does_not_exist(
    project: Project,
    profile: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setenv(name, "reserach")
    assert project.plan_error() == snapshot("""\
the config profile (reserach) could not be found
Correct `profile` under [provider], or AWS_PROFILE. Profiles in your AWS configuration: research.\
""")
    assert project.plan_error("provider.region='eu-wset-1'").startswith("the config profile")
    assert main(["plan", "-f", str(project.spec), "--state", STATE]) == 1
    printed = capsys.readouterr().err
    assert "could not be found" in printed
    assert "bug" not in printed
    # A profile of the spec is not affected.
    assert Client(profile, None).region == "eu-west-1"


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_empty_profile_counts_as_unset(
    aws: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Without a request: the cloud of this test runs in this process, and its boto3 refuses it.
    monkeypatch.setenv(name, "")
    assert Client(None, None).region == aws.settings.region
    assert open_bucket("s3", "b", STATE).config["region"] == aws.settings.region


def test_endpoint_that_is_no_url(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost")
    assert project.plan_error() == snapshot("""\
cannot use the AWS configuration: Invalid endpoint: localhost
Correct AWS_ENDPOINT_URL and your AWS configuration files.\
""")


def test_example_for_a_company_works_as_written(
    project: Project, bucket: Cloud, profile: str, tmp_path: Path
) -> None:
    text = (ROOT / "examples" / "ec2-company.toml").read_text()
    client = Client(profile, "eu-west-1")
    with client.translate_errors():
        subnets = client.ec2.describe_subnets()["Subnets"]
    for example, subnet in zip(
        ("subnet-0aaaaaaaaaaaaaaaa", "subnet-0bbbbbbbbbbbbbbbb"), subnets, strict=False
    ):
        text = text.replace(example, subnet["SubnetId"])
    spec = tmp_path / "company.toml"
    spec.write_text(text)
    project.write(text)
    assert plan(Workspace.from_spec(str(spec))).plan.changes
    project.apply()
    # Commands that need only a state use the profile of the spec as well.
    workspace = Workspace.from_state(str(spec))
    assert workspace.store.location == STATE
    assert workspace.read().cluster == "company-example"
    with (
        pytest.raises(StateError) as raised,
        workspace.store.lock("x"),
        Workspace.from_state(str(spec)).store.lock("y"),
    ):
        pass
    assert "\n  AWS_PROFILE=research planapply unlock " in str(raised.value)
    project.destroy()
