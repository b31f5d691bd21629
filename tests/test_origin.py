"""The tag `planapply:state`, which is for display only."""

from pathlib import Path

import pytest

from planapply.ops.existing import MAX_ORIGIN, describe_origin


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("s3://bucket/a/x.json", "s3://bucket/a/x.json"),
        ("s3://KEY:SECRET@bucket/x.json", "s3://bucket/x.json"),
        ("s3://KEY:SEC/RET@bucket/x.json", "s3://bucket/x.json"),
        ("az://c/x.json?sig=SECRET", "az://c/x.json"),
        ("a\nb.json", f"{Path.cwd()}/a?b.json"),
    ],
)
def test_location_is_printable_and_without_credentials(location: str, shown: str) -> None:
    who, _, place = describe_origin(location).partition(" ")
    assert "@" in who
    assert place == shown


def test_length_fits_every_clouds_tags() -> None:
    assert len(describe_origin("x" * 1000)) == MAX_ORIGIN
