"""[environment] and [workers.NAME.environment] of a spec: what the nodes install, and their variables."""

from typing import Annotated

from planapply.model.base import Model
from planapply.model.field_types import (
    Commands,
    ContainerImage,
    Packages,
    PythonVersion,
    RequirementsFile,
    Variables,
    spec_key,
)


class EnvironmentSettings(Model):
    """The Python environment of the nodes. A change replaces every node that has it.

    A group can have its own: see `environment` under [workers.NAME].

    Use at most one of `packages`, `requirements`, and `docker`. With none of them, the image must
    contain everything that Dask needs.
    """

    python: Annotated[PythonVersion | None, spec_key("replacement", "3.12")] = None
    """Version of Python for `packages` or `requirements`. Default: with `packages = "client"`, the version
    that runs planapply; otherwise the image's."""
    packages: Annotated[
        Packages | None,
        spec_key("replacement", ["dask[distributed]==2026.8.0", "pandas"], "client"),
    ] = None
    """Packages to install, in pip's format; or `"client"` for the packages of the Python that runs
    planapply, in the same versions. `"client"` leaves out packages that nodes cannot install, such as
    those from a local folder; the plan names them.

    What `"client"` stands for is decided by the first apply and kept in the state, so that a plan from another
    Python replaces nothing. A plan notes a difference; `--refresh-client` takes this Python's packages."""
    requirements: Annotated[
        RequirementsFile | None, spec_key("replacement", "requirements.txt")
    ] = None
    """Path of a requirements file in pip's format, relative to the spec's folder. A change of the file's
    content counts as a change of this key.

    uv installs it on the nodes: the image's uv, or a fixed version from PyPI. planapply translates what
    uv does not support (`-e git+…`, `--pre`, `--trusted-host`, `--config-settings`), and the plan reports
    lines that uv cannot install.
    """
    docker: Annotated[ContainerImage | None, spec_key("replacement", "daskdev/dask:latest")] = None
    """Container image in which the Dask processes run, as `docker pull` accepts it.

    A tag can move: nodes launched later may get another image. A digest cannot:
    `daskdev/dask@sha256:…`. Docker is installed before `setup` runs, so `setup` can log in to a registry.
    """
    env: Annotated[
        Variables, spec_key("replacement", {"OMP_NUM_THREADS": "1", "TOKEN": "env:TOKEN"})
    ] = {}
    """Environment variables for the Dask processes, for `setup`, and for the installation of packages.

    A variable's reference to itself is replaced by the node's own value: `PATH = "/opt/x/bin:$PATH"`.
    Every other `$` stays as it is. `http_proxy`, `https_proxy`, and `no_proxy`, in either case, also
    apply to apt and Docker.

    `"env:NAME"` is a secret: planapply reads the environment variable NAME where it runs, when it launches, and
    sends the value to the new nodes only. A changed value replaces nothing; the plan notes it, and `--replace`
    sends it. See [Secrets of the nodes](security.md#secrets-of-the-nodes).
    """
    setup: Annotated[Commands, spec_key("replacement", ["apt-get install -y graphviz"])] = ()
    """Shell commands to run as root on the VM before Dask starts. If one fails, Dask does not start.

    Each command has its own bash: a `cd` or a variable does not last until the next command. The bash runs
    with `-eo pipefail`, so a command fails at its first failing line, and if any part of a pipe fails.
    In `yes | COMMAND`, `yes` always fails when the pipe closes; write `COMMAND < <(yes)`.
    """


class ClientEnvironment(Model):
    """The Python of one client, for which `packages = "client"` stands."""

    python: str
    packages: tuple[str, ...]
    """In pip's format, sorted by name."""
