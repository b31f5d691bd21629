#!/bin/sh
# Install Debian's Chromium, for the tests that look at pages; or print why that is not possible.
set -eu
if command -v chromium >/dev/null; then
  chromium --version --no-sandbox
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "no chromium, and installing it needs root on Debian: the tests that look at pages will be skipped"
else
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null &&
    chromium --version --no-sandbox ||
    echo "cannot install chromium, see above: the tests that look at pages will be skipped"
fi
