"""Installation of Nova in its own venv; `make nova` does it, once.

The venv takes 0.3 GB in the user's cache folder, or in the folder in PLANAPPLY_NOVA_CACHE.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

VARIABLE = "PLANAPPLY_NOVA_CACHE"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# Evaluated at import: a test may set another home.
CACHE = Path(os.environ.get(VARIABLE) or platformdirs.user_cache_path("planapply") / "nova")


def python() -> Path:
    """Return the interpreter of that venv; raise if it is missing, since no test installs anything."""
    if not (_folder() / "done").exists():
        raise RuntimeError("Nova is not installed; run `make nova`")
    return _folder() / "venv" / "bin" / "python"


def _folder() -> Path:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return CACHE / digest


def install() -> None:
    """Create the venv if it is missing."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _install(folder / "venv")
            (folder / "done").touch()


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    # uv is ten times as fast, but pip may reach an index that uv cannot.
    uv = Path(sys.executable).with_name("uv")
    commands = [[uv, "pip", "install", "--quiet", "--python", interpreter, "-r", REQUIREMENTS]]
    commands += [[interpreter, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS]]
    for command in commands if uv.exists() else commands[1:]:
        if subprocess.run(command, check=False).returncode == 0:
            break
    else:
        raise RuntimeError("cannot install Nova: see the output of pip above")
    # Nova's fixtures expect the configuration next to the package, as in a checkout.
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "etc").symlink_to(folder / "etc")


if __name__ == "__main__":
    install()
    print(python())
