"""Console output of a VM."""

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import last_lines
from planapply_libcloud.client import Client
from planapply_libcloud.drivers.full import FullDriver
from planapply_libcloud.errors import NotFound


def console(client: Client, id: str, lines: int) -> str:
    """Return the last lines; empty for a VM that the cloud does not know."""
    driver = client.driver
    assert isinstance(driver, FullDriver)
    try:
        with client.borrow_driver() as lib:
            text = driver.console(lib, id)
    except NotFound:
        return ""
    except ProviderError as error:
        if error.kind is ErrorKind.UNAVAILABLE:
            return ""  # the VM is being built
        raise
    return last_lines(text, lines)
