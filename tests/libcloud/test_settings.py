"""Errors in `[provider]`, found without a call to any cloud."""

import re
from pathlib import Path

import pytest
from cli.commands import Run
from inline_snapshot import snapshot
from planapply_libcloud.client import Client
from planapply_libcloud.settings import Settings

from planapply.provider import ErrorKind, ProviderError

GCE = """\
[cluster]
name = "genomics"
provider = "libcloud"

[provider]
driver = "gce"
key = "planapply@my-project.iam.gserviceaccount.com"
secret = "service-account.json"
options = { project = "my-project", datacenter = "europe-west1-b" }

[defaults]
size = "e2-standard-2"
image = "debian-cloud/debian-12"

[workers.cpu]
count = 1
"""


def begin(run: Run, driver: str) -> str:
    result = run("init", "--provider", "libcloud", "--set", f'provider.driver="{driver}"')
    assert result.code == int(bool("Error" in result.err))
    assert Path("planapply.toml").exists() is (result.code == 0)
    return result.err


def test_init_checks_the_driver(run: Run) -> None:
    assert begin(run, "nonsense") == snapshot("""\
Error: Libcloud has no driver 'nonsense'
  planapply knows openstack, gce, azure_arm, ec2, digitalocean, linode, vultr, scaleway,
  equinixmetal, exoscale, cloudstack, ovh, upcloud, kamatera, dummy; Libcloud's documentation lists
  all others.
""")
    assert begin(run, "GCE") == snapshot("""\
Error: Libcloud has no driver 'GCE'
  Did you mean 'gce'?
""")


@pytest.mark.parametrize("driver", ["azure", "azure_arm", "linode", "vcloud"])
def test_starter_has_the_given_name(run: Run, driver: str) -> None:
    begin(run, driver)
    assert f'\ndriver = "{driver}"\n' in Path("planapply.toml").read_text()
    assert run("validate").code == 0


def test_validate_checks_the_driver(run: Run) -> None:
    Path("planapply.toml").write_text(GCE.replace('"gce"', '"nonsense"'))
    result = run("validate")
    assert result.code == 1
    assert result.err == snapshot("""\
Error: `provider.driver`: Libcloud has no driver 'nonsense'
 --> planapply.toml:6:1
  |
6 | driver = …
  | ^^^^^^
  planapply knows openstack, gce, azure_arm, ec2, digitalocean, linode, vultr, scaleway,
  equinixmetal, exoscale, cloudstack, ovh, upcloud, kamatera, dummy; Libcloud's documentation lists
  all others.
""")


def test_missing_key_file_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("planapply.toml").write_text(GCE)
    result = run("plan")
    assert result.code == 1
    assert result.err == snapshot("""\
Error: key file service-account.json does not exist
  Correct `secret` under [provider]; a path is relative to the current folder.
""")
    Path("planapply.toml").write_text(GCE.replace("service-account.json", "env:GCE_KEY"))
    monkeypatch.setenv("GCE_KEY", "s3cr3t")
    assert run("plan").err == snapshot("""\
Error: environment variable GCE_KEY is neither a key nor the path of a key file
  Correct `secret` under [provider]; a path is relative to the current folder.
""")


def test_key_in_the_spec_is_refused(run: Run) -> None:
    Path("planapply.toml").write_text(GCE.replace("service-account.json", "-----BEGIN s3cr3t"))
    assert run("validate").err == snapshot("""\
Error: `provider.secret`: a spec must not contain credentials
 --> planapply.toml:8:1
  |
8 | secret = …
  | ^^^^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
""")


SECRETS = """\
[cluster]
name = "genomics"
provider = "libcloud"

[provider]
driver = "linode"
key = "s3cr3t-1"
secret = "s3cr3t-2"
options = { region = "eu", ex_password = "s3cr3t-3" }

[provider.create]
ex_disks = [
    { size = 1 },
    { size = 2, ex_token = "s3cr3t-4" },
]
ex_auth.password = "s3cr3t-5"

[defaults]
create = { password = "s3cr3t-6", born = 1979-05-27 }

[scheduler.create]
api_key = ["s3cr3t-7"]
ex_credential_check = true

[workers.cpu]
count = 1
create = { ex_password="s3cr3t-8" }
zone = "eu"
"""


def test_every_credential_in_the_spec_is_reported_at_its_position(run: Run) -> None:
    Path("planapply.toml").write_text(SECRETS)
    result = run("validate")
    assert (result.code, result.out) == (1, "")
    assert "s3cr3t" not in result.err
    assert result.err == snapshot("""\
Error: `provider.key`: a spec must not contain credentials
 --> planapply.toml:7:1
  |
7 | key = …
  | ^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `provider.secret`: a spec must not contain credentials
 --> planapply.toml:8:1
  |
8 | secret = …
  | ^^^^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `provider.options.ex_password`: a spec must not contain credentials
 --> planapply.toml:9:11
  |
9 | options = …
  |           ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `provider.create.ex_disks[1].ex_token`: a spec must not contain credentials
  --> planapply.toml:14:14
   |
14 |     { size = …
   |              ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `provider.create.ex_auth.password`: a spec must not contain credentials
  --> planapply.toml:16:9
   |
16 | ex_auth.password = …
   |         ^^^^^^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `defaults.create.born` cannot be a date or a time
  --> planapply.toml:19:10
   |
19 | create = …
   |          ^
  Quote it: `"1979-05-27"`.

Error: `defaults.create.password`: a spec must not contain credentials
  --> planapply.toml:19:10
   |
19 | create = …
   |          ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `scheduler.create.api_key`: a spec must not contain credentials
  --> planapply.toml:22:1
   |
22 | api_key = …
   | ^^^^^^^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: `workers.cpu.create.ex_password`: a spec must not contain credentials
  --> planapply.toml:27:10
   |
27 | create = …
   |          ^
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: [workers.cpu] has no key `zone`
  --> planapply.toml:28:1
   |
28 | zone = "eu"
   | ^^^^
  Did you mean `zones`?
""")
    assert run("plan") == result


def test_every_credential_on_the_command_line_is_reported_at_its_option(run: Run) -> None:
    Path("planapply.toml").write_text(GCE.replace("gce", "linode").replace("service-", "env:"))
    given = (
        'provider.key="s3cr3t-1"',
        'provider.secret="s3cr3t-2"',
        'provider.options={ex_password="s3cr3t-3", key="s3cr3t-4"}',
        'defaults.create={password="s3cr3t-5", born=1979-05-27}',
        "workers.cpu.create.ex_password='s3cr3t-6'",
    )
    result = run("validate", *(word for option in given for word in ("--set", option)))
    assert (result.code, result.out) == (1, "")
    assert "s3cr3t" not in result.err
    assert result.err == snapshot("""\
Error: --set defaults.create: `defaults.create.born` cannot be a date or a time
  Quote it: `"1979-05-27"`.

Error: --set provider.key: `provider.key`: a spec must not contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: --set provider.secret: `provider.secret`: a spec must not contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: --set provider.options: `provider.options.ex_password`: a spec must not contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: --set provider.options: `provider.options.key`: a spec must not contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: --set defaults.create: `defaults.create.password`: a spec must not contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.

Error: --set workers.cpu.create.ex_password: `workers.cpu.create.ex_password`: a spec must not
contain credentials
  Write "env:NAME" instead: planapply then reads the environment variable NAME.
""")


def test_credentials_are_read_from_the_environment(run: Run) -> None:
    text = re.sub(r'\[?"s3cr3t-."\]?', '"env:ACME"', SECRETS)
    text = text.replace(", born = 1979-05-27", "").replace('zone = "eu"\n', "")
    Path("planapply.toml").write_text(text)
    assert run("validate") == (0, "Success! The spec planapply.toml is valid.\n", "")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\nX-Header: 1"])
def test_malformed_credential_is_reported_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setenv("DO_TOKEN", f"s3cret-token{end}")
    with pytest.raises(ProviderError) as raised:
        Client(Settings(driver="digitalocean", key="env:DO_TOKEN"))
    assert raised.value.kind is ErrorKind.UNAUTHORIZED
    assert "environment variable DO_TOKEN: a line end" in str(raised.value)
    assert "s3cret" not in str(raised.value)
