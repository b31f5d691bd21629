"""A cluster's life on EC2: what is printed, recorded as events, and sent is searched for secrets."""

import base64
import gzip

import pytest
from ec2.project import Project
from lab.honest import Cloud

from planapply.cli import main

SECRETS = ("tiger-token", "tiger-login", "tiger-index", "tiger-aws-key", "tiger-session")
ENVIRONMENT = """\
env = { API_TOKEN = "tiger-token" }
setup = ["docker login -p tiger-login"]
requirements = "requirements.txt"
"""


def test_only_the_user_data_has_secrets(
    project: Project,
    aws: Cloud,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tiger-aws-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tiger-session")
    text = project.spec.read_text().replace(
        'packages = ["dask[distributed]", "bokeh"]\n', ENVIRONMENT
    )
    project.write(text)
    (project.spec.parent / "requirements.txt").write_text(
        "dask[distributed]\n--extra-index-url https://me:tiger-index@mirror/simple\n"
    )
    printed = ""

    def run(*arguments: str) -> None:
        nonlocal printed
        assert main([*arguments, "-f", str(project.spec)]) == 0
        printed += "".join(capsys.readouterr())

    run("validate")
    run("plan")
    run("plan", "--json")
    project.apply()
    state = project.state()
    assert state.tls is not None
    key = state.tls.key.get_secret_value().splitlines()[1]
    for command in (["show"], ["status"], ["state", "show", "cpu-0"], ["output"], ["list"]):
        run(*command)
        run(*command, "--json")
    project.destroy()
    sent = [dict(call["params"]) for call in aws.log()]
    user_data = [params.pop("UserData") for params in sent if "UserData" in params]
    searched = [printed, "".join(map(str, project.events)), str(sent)]
    for secret in (*SECRETS, key):
        assert [i for i, text in enumerate(searched) if secret in text] == [], secret
    # The search can find something.
    scripts = [gzip.decompress(base64.b64decode(data)).decode() for data in user_data]
    assert all(secret in "".join(scripts) for secret in (*SECRETS[:3], key))
