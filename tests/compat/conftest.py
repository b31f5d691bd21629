"""A folder of one's own, and an AWS SDK that is quick to start."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from cli.conftest import folder, run

__all__ = ["folder", "quick_sdk", "run"]


@pytest.fixture(autouse=True, scope="package")
def quick_sdk() -> Iterator[None]:
    """Read each of botocore's service models once: every command makes new clients."""
    read = cache(JSONFileLoader().load_file)

    def load_file(self: JSONFileLoader, path: str) -> Any:
        return read(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", load_file)
        yield
