"""Installation of Nova in its own venv: run `python -m novalab.install` in tests/ once.

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
    """Return the interpreter of the venv; create the venv if it is missing."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / digest
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _install(folder / "venv")
            (folder / "done").touch()
    return folder / "venv" / "bin" / "python"


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
        raise RuntimeError("Nova can't be installed; what pip said stands above")
    # Nova's fixtures expect the configuration next to the package, as in a checkout.
    packages = next((folder / "lib").glob("python*/site-packages"))
    (packages / "etc").symlink_to(folder / "etc")


if __name__ == "__main__":
    print(python())
