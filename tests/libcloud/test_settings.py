"""What is wrong with `[provider]`, known before any cloud is asked."""

from pathlib import Path

import pytest
from cli.commands import Run
from inline_snapshot import snapshot

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


def test_init_knows_the_drivers(run: Run) -> None:
    assert begin(run, "nonsense") == snapshot("""\
Error: Libcloud has no driver 'nonsense'
  planapply knows openstack, gce, azure_arm, ec2, digitalocean, linode, vultr, scaleway,
  equinixmetal, exoscale, cloudstack, ovh, upcloud, kamatera, dummy; Libcloud's pages list those
  that it does not.
""")
    assert begin(run, "GCE") == snapshot("""\
Error: Libcloud has no driver 'GCE'
  Did you mean gce?
""")


@pytest.mark.parametrize("driver", ["azure", "azure_arm", "linode", "vcloud"])
def test_a_starter_has_the_name_that_was_given(run: Run, driver: str) -> None:
    begin(run, driver)
    assert f'\ndriver = "{driver}"\n' in Path("planapply.toml").read_text()
    assert run("validate").code == 0


def test_validate_knows_the_drivers(run: Run) -> None:
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
  equinixmetal, exoscale, cloudstack, ovh, upcloud, kamatera, dummy; Libcloud's pages list those
  that it does not.
""")


def test_a_key_file_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("planapply.toml").write_text(GCE)
    result = run("plan")
    assert result.code == 1
    assert result.err == snapshot("""\
Error: the key file service-account.json is not there
  `secret` under [provider] names it; a path is relative to the current folder.
""")
    Path("planapply.toml").write_text(GCE.replace("service-account.json", "env:GCE_KEY"))
    monkeypatch.setenv("GCE_KEY", "s3cr3t")
    assert run("plan").err == snapshot("""\
Error: GCE_KEY in the environment is no key, and no path of a file with one
  `secret` under [provider] names it; a path is relative to the current folder.
""")


def test_a_key_in_the_spec(run: Run) -> None:
    Path("planapply.toml").write_text(GCE.replace("service-account.json", "-----BEGIN s3cr3t"))
    assert run("validate").err == snapshot("""\
Error: `provider`: `secret` is a credential, and a spec holds none
 --> planapply.toml:5:2
  |
5 | [provider]
  |  ^^^^^^^^
  Write "env:NAME": the environment variable NAME is read when it is needed.
""")
