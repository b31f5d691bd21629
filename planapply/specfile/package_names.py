"""Packages that a node cannot install although an installation here has them."""

import re

_OTHER_SYSTEM = re.compile(r"pywin32|pypiwin32|pywinpty|winshell|winrt-.*|pyobjc(-.*)?")
_NOT_PUBLISHED = {
    # Parts of Debian, Ubuntu and Fedora.
    *("apturl", "brlapi", "chrome-gnome-shell", "cloud-init", "command-not-found", "cupshelpers"),
    *("hawkey", "landscape-common", "language-selector", "libdnf", "nftables", "python-apt"),
    *("sepolicy", "software-properties", "subscription-manager", "system-service", "ufw"),
    *("ubuntu-advantage-tools", "ubuntu-drivers-common", "ubuntu-pro-client", "usb-creator"),
    *("unattended-upgrades", "xkit"),
    # Parts of conda.
    *("conda", "conda-libmamba-solver", "libmambapy", "menuinst"),
}
ARTIFACT = "pkg-resources"
"""Name that `pip freeze` of Debian lists by mistake; there is no such package."""


def normalize(name: str) -> str:
    """Return the name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_for_another_system(name: str) -> bool:
    """Return whether a package, by its normalized name, exists for Windows or macOS only."""
    return _OTHER_SYSTEM.fullmatch(name) is not None


def is_unpublished(name: str) -> bool:
    """Return whether a package, by its normalized name, is part of an operating system or of conda."""
    return name in _NOT_PUBLISHED
