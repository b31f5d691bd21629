"""Chromium for tests that look at pages: Debian's package, driven by playwright of the integrations venv."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or ""

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="there is no chromium; `make chromium` installs Debian's package, as root"
)

ARGUMENTS = (
    "--no-sandbox",  # root has no sandbox, and the pages are the tests' own
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
"""Arguments with which Chromium resolves no name, and so connects to this machine only."""
