#!/bin/bash
# Run the demo and the fast tests on the Python of a Debian suite: python_suite.sh trixie
# Needs root on Debian, its package mirrors, and PyPI. The suite's packages are kept in the user's cache
# folder; everything else is in memory, in namespaces that end with the tests.
set -euo pipefail
suite=${1:?name a suite of Debian, such as trixie}
packages=python3,python3-venv,make,ca-certificates,procps,iproute2,git,openssh-client
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "make test-python needs root on Debian" >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/planapply-suites
mkdir -p "$cache"
exec {lock}>"$cache/.$suite.lock"
flock "$lock"
if [ ! -d "$cache/$suite" ]; then
  rm -rf "$cache/$suite.part"
  debootstrap --variant=minbase --include="$packages" "$suite" "$cache/$suite.part" >&2
  mv "$cache/$suite.part" "$cache/$suite"
fi
flock --unlock "$lock"

export base=$cache/$suite
source=$(git rev-parse --show-toplevel)
memory=$(mktemp -d)
export source memory
trap 'rmdir "$memory"' EXIT
unshare --mount --pid --fork --kill-child=KILL --mount-proc bash -euo pipefail <<'END'
mount -t tmpfs -o size=80% tmpfs "$memory"
mkdir "$memory/upper" "$memory/work" "$memory/root"
mount -t overlay -o "lowerdir=$base,upperdir=$memory/upper,workdir=$memory/work" overlay "$memory/root"
cd "$memory/root"
for folder in dev proc sys; do mount --rbind "/$folder" "$folder"; done
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
  cp --dereference "$file" ".$file"
done
mkdir src
git -C "$source" ls-files -z | tar -C "$source" --null --files-from=- -c --ignore-failed-read | tar -x -C src
chroot . python3 --version
chroot . env HOME=/root LANG=C.UTF-8 make -C /src demo test-fast </dev/null
END
