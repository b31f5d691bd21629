"""Docs: the tables in the pages are what the code prints."""

from pathlib import Path

from conformance import table

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_drivers_table_is_current() -> None:
    assert table.drivers_table() in (DOCS / "libcloud.md").read_text()


def test_conformance_table_is_current() -> None:
    page = (DOCS / "providers.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows[1:] == table.list_promises()


def test_every_page_has_an_example() -> None:
    for page in DOCS.glob("libcloud-*.md"):
        example = ROOT / "examples" / f"{page.stem.removeprefix('libcloud-')}.toml"
        assert f"../examples/{example.name}" in page.read_text()
        assert example.exists()
