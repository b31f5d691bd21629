"""Base disk of the lab's machines, built once: Debian with cloud-init, and a Python layer.

`python -m lab.base` builds it (a few minutes, needs root on Debian and its package mirrors) and prints
its path; `python -m lab.base --check` only prints whether the lab can run here, and why not.
"""

import argparse
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import platformdirs

RELEASE, PYTHON = "bookworm", (3, 11)
"""Release of Debian, and its Python: clients and nodes must have the same version."""
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "dbus-daemon": "dbus",
}
"""Debian package of each command that the host needs."""
PACKAGES = "systemd-sysv,dbus,iproute2,nftables,python3,ca-certificates,curl,procps"
ROOT_PACKAGES = ("distributed", "cloudpickle", "cryptography")
"""Packages of the nodes' Python; they and their dependencies have this process's versions."""

_CLOUD_CFG = """\
datasource_list: [ Ec2 ]
datasource:
  Ec2:
    timeout: 5
    max_wait: 20
    strict_id: false
    metadata_urls: ['http://169.254.169.254']
    apply_full_imds_network_config: false
network: {config: disabled}
cloud_init_modules: [bootcmd, write-files, set_hostname]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user]
"""
# Makes a node's `uv pip install` use the wheelhouse: the machines have no route to an index.
_UV_CFG = 'no-index = true\nfind-links = ["/opt/wheels"]\npython-downloads = "never"\n'
_DASK = "#!/opt/planapply/bin/python\nfrom dask.cli import run_cli\n\nrun_cli()\n"


def unsupported_reason() -> str:
    """Return why machines cannot run here; empty if they can after `install` and `build`."""
    release = Path("/etc/os-release")
    if not release.exists() or not re.search(r"^ID=\"?debian", release.read_text(), re.MULTILINE):
        return "the lab needs Debian"
    if os.geteuid() != 0:
        return "the lab needs root"
    if sys.version_info[:2] != PYTHON:
        return (
            f"the lab's machines run Python {PYTHON[0]}.{PYTHON[1]}, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: run the tests with the machines' version"
        )
    probe = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return (
            "the lab needs namespaces, which are not allowed here (a container without privileges?)"
        )
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the lab needs overlayfs"
    return ""


def missing_packages() -> list[str]:
    """Return the Debian packages that the host lacks."""
    return [package for tool, package in TOOLS.items() if not shutil.which(tool)]


def unavailable_reason() -> str:
    """Return why machines cannot run now; empty if they can."""
    reason = unsupported_reason()
    if not reason and missing_packages():
        reason = (
            f"the lab needs {', '.join(missing_packages())}; `python -m lab.base` installs them"
        )
    if not reason and not all(layer.exists() for layer in layers()):
        reason = "the lab's machines are not built yet; `python -m lab.base` builds them"
    return reason


def layers() -> tuple[Path, Path]:
    """Return the folders of the layers: Python's, which is on top of Debian's."""
    cache = os.environ.get("PLANAPPLY_LAB_CACHE") or platformdirs.user_cache_dir("planapply-lab")
    sources = {
        "python": [*pins(), _DASK, _UV_CFG, inspect.getsource(make_python)],
        "debian": [RELEASE, PACKAGES, _CLOUD_CFG, inspect.getsource(make_debian)],
    }
    digests = {name: hashlib.sha256("\n".join(source).encode()) for name, source in sources.items()}
    python, debian = (Path(cache) / f"{name}-{d.hexdigest()[:12]}" for name, d in digests.items())
    return python, debian


def pins() -> list[str]:
    """Return `name==version` of the root packages and their dependencies here."""
    found, remaining = dict[str, str](), list(ROOT_PACKAGES)
    while remaining:
        name = re.sub(r"[-_.]+", "-", remaining.pop()).lower()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        found[name] = distribution.version
        for requirement in distribution.requires or []:
            if "extra ==" not in requirement:
                remaining.append(re.split(r"[\s\[\]<>=!~;(]", requirement, maxsplit=1)[0])
    return sorted(f"{name}=={version}" for name, version in found.items())


def build() -> None:
    """Install the packages that the host lacks, and build missing layers."""
    if missing_packages():
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", env=environment)
        install = ["apt-get", "install", "-y", "--no-install-recommends", *missing_packages()]
        run(*install, env=environment)
    python, debian = layers()
    debian.parent.mkdir(parents=True, exist_ok=True)
    for layer, make in ((debian, make_debian), (python, make_python)):
        with lock_layer(layer):
            if not layer.exists():
                build_layer(layer, make)


def build_layer(layer: Path, make: Callable[[Path], None]) -> None:
    """Build a layer under a temporary name, so that it is complete or missing."""
    part = layer.with_name(f"{layer.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    make(part)
    part.rename(layer)


def make_debian(root: Path) -> None:
    """Debian as its cloud images are: systemd, and cloud-init with EC2 as its source."""
    # cloud-init comes second: among debootstrap's own packages its configuration fails.
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(root))
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    inside = ("chroot", str(root))
    run(
        *inside,
        "apt-get",
        "install",
        "-y",
        "--no-install-recommends",
        "cloud-init",
        env=environment,
    )
    # The lab gives the addresses: cloud-init would only wait for the DHCP client that it depends on.
    (root / "sbin/dhclient").unlink()
    run(*inside, "apt-get", "clean")
    services = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
    run(*inside, "systemctl", "enable", *services)
    # Nothing that a machine of the lab needs, and all at once with many machines.
    idle = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer")
    run(*inside, "systemctl", "mask", *idle, "systemd-networkd-wait-online.service")
    (root / "etc/cloud/cloud.cfg.d/90_lab.cfg").write_text(_CLOUD_CFG)
    for name in ("etc/resolv.conf", "etc/machine-id", "etc/hostname", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/machine-id").touch()


def make_python(root: Path) -> None:
    """`/opt/planapply`, what an image that has everything has, and `/opt/wheels` with uv to install from."""
    wheels = root / "opt/wheels"
    site = root / "opt/planapply/lib/python3.11/site-packages"
    for folder in (
        wheels,
        site,
        root / "opt/planapply/bin",
        root / "usr/local/bin",
        root / "etc/uv",
    ):
        folder.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    pip = (
        uv,
        "run",
        "--no-project",
        "--python",
        sys.executable,
        "--with",
        "pip",
        "python",
        "-m",
        "pip",
    )
    run(*pip, "download", "--only-binary=:all:", "--no-deps", "--dest", str(wheels), *pins())
    local = ("--no-index", "--find-links", str(wheels), "--no-deps", "--target", str(site))
    run(uv, "pip", "install", "--python", sys.executable, "--link-mode=copy", *local, *pins())
    compile_ = ("-m", "compileall", "-q", "-j", "0", "-s", str(root), "-p", "/")
    run(sys.executable, *compile_, str(site))
    config = "home = /usr/bin\ninclude-system-site-packages = false\n"
    (root / "opt/planapply/pyvenv.cfg").write_text(config)
    (root / "opt/planapply/bin/python").symlink_to("/usr/bin/python3")
    (root / "opt/planapply/bin/dask").write_text(_DASK)
    (root / "opt/planapply/bin/dask").chmod(0o755)
    shutil.copy(uv, root / "usr/local/bin/uv")
    (root / "etc/uv/uv.toml").write_text(_UV_CFG)


@contextmanager
def lock_layer(layer: Path) -> Iterator[None]:
    """Hold the lock of the builder."""
    with layer.with_name(f".{layer.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a command with its output on stderr: stdout is for the result."""
    print(f"lab: {' '.join(command)[:160]}", file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env)


def main() -> int:
    """Build the layers, or print why not; with `--check`, return 1 if machines cannot run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether it can run here")
    options = parser.parse_args()
    reason = unavailable_reason() if options.check else unsupported_reason()
    if not reason and not options.check:
        build()
    print(reason or "\n".join(map(str, layers())))
    return bool(reason) and options.check


if __name__ == "__main__":
    sys.exit(main())
