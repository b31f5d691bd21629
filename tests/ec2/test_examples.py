"""Examples and pages: EC2 accepts the specs, and the pages name all settings."""

import re
from pathlib import Path

import boto3
import pytest
from ec2.project import Project
from lab.honest import Cloud
from planapply_ec2.settings import Settings

from planapply.cli import main
from planapply.model.plan import Plan
from planapply.ops.plan import plan
from planapply.ops.workspace import Workspace

ROOT = Path(__file__).parents[2]
SUBNETS = ("subnet-0aaaaaaaaaaaaaaaa", "subnet-0bbbbbbbbbbbbbbbb")


def planned(name: str, folder: Path) -> Plan:
    text = (ROOT / "examples" / name).read_text()
    spec = folder / name
    subnets = boto3.client("ec2").describe_subnets()["Subnets"]
    for example, subnet in zip(SUBNETS, subnets, strict=False):
        text = text.replace(example, subnet["SubnetId"])
    spec.write_text(text.replace('profile = "research"\n', ""))
    return plan(Workspace.from_spec(str(spec), state=str(folder / "state.json"))).plan


@pytest.mark.parametrize(
    ("name", "nodes"), [("ec2.toml", 5), ("ec2-gpu.toml", 3), ("ec2-company.toml", 1)]
)
def test_example_can_be_planned(
    project: Project, aws: Cloud, tmp_path: Path, name: str, nodes: int
) -> None:
    made = planned(name, tmp_path)
    assert sum(change.kind == "node" for change in made.changes) == nodes
    assert {change.action for change in made.changes} == {"create"}
    assert made.cost is not None
    assert made.cost.after


def test_docs_name_exactly_the_settings() -> None:
    pages = "".join((ROOT / "docs" / f"{p}.md").read_text() for p in ("ec2", "ec2-company", "spec"))
    for setting in Settings.model_fields:
        assert f"`{setting}`" in pages
    tables = re.findall(r"\[provider\]\n((?:[a-z_]+ = .*\n)+)", pages)
    named = {line.partition(" = ")[0] for table in tables for line in table.splitlines()}
    assert named <= {*Settings.model_fields, "folder", "driver", "key", "secret", "options"}


def test_links_between_pages_are_valid() -> None:
    for page in ("ec2", "ec2-iam", "ec2-company"):
        path = ROOT / "docs" / f"{page}.md"
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / link).exists(), (page, link)


def test_starter_spec_can_be_planned_unchanged(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    project.spec.unlink()
    words = ["init", "--provider", "ec2", "--set", "provider.region='eu-central-1'"]
    assert main(words) == 0
    made = plan(Workspace.from_spec("planapply.toml")).plan
    assert made.settings == {"region": "eu-central-1"}
    assert made.summary == {"add": 4, "change": 0, "destroy": 0}
