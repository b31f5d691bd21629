"""A faster AWS SDK: every command and provider creates new clients, and each reads megabytes of JSON."""

from functools import cache
from typing import Any


def cache_service_models() -> None:
    """Let botocore read each of its service models once per process."""
    from botocore.loaders import JSONFileLoader

    read = cache(JSONFileLoader().load_file)

    def load_file(self: JSONFileLoader, path: str) -> Any:
        return read(path)

    JSONFileLoader.load_file = load_file
