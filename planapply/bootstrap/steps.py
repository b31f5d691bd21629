"""The steps of the user data, as shell code."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from planapply.bootstrap.requirements import translate, uses_git
from planapply.model.diagnostics import PlanapplyError

UV_VERSION = "0.13.9"
"""The uv that a node installs if its image has none; the tests of requirements lines run it."""

START_MARKER, END_MARKER = "planapply: start", "planapply: end"
"""The beginnings of the lines that a node prints when it starts and stops.

Lines after the second one belong to the VM's shutdown. Nodes that older versions launched print these
as well, so the beginnings must not change.
"""

END_REASON_MARKER = "planapply: this VM ends: "
"""The beginning of the line, with one word after it, that says why a VM powers itself off; see
`console.find_end_reason`. The scheduler's own plug-in prints such lines, too."""

SCRIPT_HEADER = """\
#!/bin/bash
# Written by planapply for {group} of the cluster {cluster}; runs once, at the first boot.
set -euo pipefail
umask 077
export HOME=/root DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/planapply /opt/planapply /var/lib/planapply
chmod 700 /etc/planapply
cd /var/lib/planapply

# A node that cannot start is useless and costs money: print the reason on the console, and power
# off. EC2 terminates a VM that powers off.
fail() {{ echo "planapply: $*"; exit 1; }}
at_exit() {{
  if [ "$1" != 0 ]; then
    echo "planapply: this VM ends: failed"
    echo "planapply: end: this node cannot start; the reason is above. Shutting down the VM."
    systemctl --no-block poweroff
  fi
}}
trap 'at_exit $?' EXIT
"""

TTL_TIMER = """\
# ttl: power off at this age, also if a later step fails, and after a reboot.
cat >/etc/systemd/system/planapply-ttl.service <<'END'
[Unit]
Description=Power off this VM at its ttl
[Service]
Type=oneshot
ExecStart=-/bin/echo "planapply: this VM ends: ttl"
ExecStart=/bin/systemctl --no-block poweroff
StandardOutput=journal+console
END
cat >/etc/systemd/system/planapply-ttl.timer <<END
[Unit]
Description=The ttl of this VM
[Timer]
OnCalendar=$(date -u -d '+{seconds} seconds' '+%F %T UTC')
AccuracySec=1s
Persistent=true
[Install]
WantedBy=timers.target
END
systemctl daemon-reload
systemctl enable --now planapply-ttl.timer
"""

METADATA_CLIENT = """\
# EC2's metadata (IMDSv2): print one item, and retry after some seconds until it exists.
cat >/etc/planapply/metadata.py <<'END'
import sys, time, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(path, method="GET", **headers):
    url = f"http://169.254.169.254/latest/{path}"
    headers = {f"X-aws-ec2-metadata-{key}".replace("_", "-"): headers[key] for key in headers}
    request = urllib.request.Request(url, method=method, headers=headers)
    return opener.open(request, timeout=5).read().decode()


while True:
    try:
        token = fetch("api/token", "PUT", token_ttl_seconds="60")
        print(fetch(f"meta-data/{sys.argv[1]}", token=token))
        break
    except OSError:
        time.sleep(float(sys.argv[2]))
END
"""

ADDRESS_STEP = """\
# The workers listen only on the address from which this VM reaches the scheduler: the private one.
address='import socket as s, sys; c = s.socket(s.AF_INET, s.SOCK_DGRAM); c.connect((sys.argv[1], 9)); \
print(c.getsockname()[0])'
host=$(python3 -c "$address" {scheduler}) || fail "this VM has no route to the scheduler"
spec=${{spec//{host}/$host}}
"""

DASK_CHECK = """\
has_dask='import importlib.util as u, sys; sys.exit(u.find_spec("distributed") is None)'
"""

DASK_SERVICE = """\
# The Dask process. When it stops, the VM powers off: after idle_timeout or no_client_timeout, when it was
# retired, when its scheduler no longer exists, or after a crash.
declare -p environment workers dask inside >/etc/planapply/node
cat >/etc/planapply/run <<'END'
#!/bin/bash
. /etc/planapply/node
echo "planapply: start: Dask process"
@EXEC@ env "${environment[@]}" "${dask[@]}" @PROGRAM@ @SCHEDULER@\\
  --spec "$(</etc/planapply/spec.json)"
@SECRETS@END
# Printed unless the VM shuts down already, which has a reason of its own.
cat >/etc/planapply/ended <<'END'
#!/bin/bash
scheduler=@PEER@
if [ "$(systemctl is-system-running)" = stopping ]; then exit 0; fi
if [ "${SERVICE_RESULT:-}" != success ]; then reason=failed
elif [ -z "$scheduler" ]; then reason=shutdown
elif timeout 5 bash -c ': <>"$0"' "$scheduler" 2>/dev/null; then exit 0  # it was retired
else reason=scheduler_gone
fi
echo "planapply: this VM ends: $reason"
END
chmod 700 /etc/planapply/run /etc/planapply/ended
cat >/etc/systemd/system/planapply.service <<'END'
[Unit]
Description=Dask process of this node
Wants=network-online.target
After=network-online.target docker.service
SuccessAction=poweroff
FailureAction=poweroff
[Service]
ExecStart=/etc/planapply/run
ExecStopPost=-/etc/planapply/ended
ExecStopPost=/bin/echo "planapply: end: the Dask process stopped; shutting down the VM"
WorkingDirectory=/var/lib/planapply
StandardOutput=journal+console
StandardError=journal+console
LimitNOFILE=1048576
TimeoutStopSec=60
[Install]
WantedBy=multi-user.target
END
"""

NOTICE_TOPIC = "planapply-notices"
"""Topic of the scheduler's event log for the notices about spot VMs; see `dask.notices`."""

SPOT_SERVICE = """\
# EC2 announces the interruption of a spot VM two minutes ahead: time for its workers to move their
# results to other workers. Only the VM can see that, so it reports to its scheduler; it also reports a
# higher risk (a rebalance recommendation), which `planapply watch` acts on.
cat >/etc/planapply/spot <<'END'
#!/bin/bash
. /etc/planapply/node
vm=$(python3 /etc/planapply/metadata.py instance-id 5)
report() {
  env "${environment[@]}" "${inside[@]}" -c '
import os, sys, time
from distributed import Client
kind, vm, scheduler, *workers = sys.argv[1:]
notice = {"node": os.environ["PLANAPPLY_NODE"], "vm": vm, "kind": kind, "time": time.time()}
with Client(scheduler, timeout=10) as client:
    client.log_event("planapply-notices", notice)
    if workers:
        client.retire_workers(names=workers, remove=True, close_workers=True)
' "$1" "$vm" @SCHEDULER@ "${@:2}"
}
rebalance() {
  python3 /etc/planapply/metadata.py events/recommendations/rebalance 5
  until report rebalance; do sleep 5; done
}
rebalance &
python3 /etc/planapply/metadata.py spot/instance-action 5
echo "planapply: EC2 will interrupt this spot VM; retiring its workers"
echo "planapply: this VM ends: reclaimed"
report interruption "${workers[@]}"
END
chmod 700 /etc/planapply/spot
cat >/etc/systemd/system/planapply-spot.service <<'END'
[Unit]
Description=Retire the Dask workers when EC2 interrupts this spot VM
After=planapply.service
[Service]
ExecStart=/etc/planapply/spot
Restart=on-failure
RestartSec=2
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
END
"""

ENABLE_UNITS = """\
systemctl daemon-reload
systemctl enable --now --no-block @UNITS@
"""


def write_file(path: str, text: str) -> str:
    """Return the step that writes a file that only root can read, with a final line end.

    Raises PlanapplyError for a zero byte, which bash leaves out: what is no delimiter could become one.
    """
    if "\0" in text:
        raise PlanapplyError(f"cannot write {path} on a node: it has a zero byte", "Remove it.")
    delimiter = "END"
    while delimiter in text.splitlines():
        delimiter += "_"
    return f"cat >{path} <<'{delimiter}'\n{text.removesuffix(chr(10))}\n{delimiter}\n"


def define_apt(proxies: Mapping[str, str]) -> str:
    """Return the functions that install Debian packages, through these proxies (lowercase names)."""
    apt = "".join(f"{shlex.quote(f'{name}={value}')} " for name, value in proxies.items())
    apt_get = f"env {apt}apt-get" if apt else "apt-get"
    return f"""\
apt_lists() {{
  if command -v apt-get >/dev/null; then
    # Other jobs of a first boot hold apt's lock for a while; most images have no package lists.
    echo 'DPkg::Lock::Timeout "300";' >/etc/apt/apt.conf.d/90planapply
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*')" ] || {apt_get} update || true
  fi
}}
apt_install() {{
  command -v apt-get >/dev/null || fail "the image has no $1, and no apt-get to install it"
  apt_lists
  {apt_get} install -y "$1" || fail "cannot install $1 with apt-get"
}}
"""


def run_setup(commands: Sequence[str]) -> str:
    """Return the step that runs the user's commands, each in its own shell, which stops at an error."""
    if not commands:
        return ""
    total = len(commands)
    # The commands are not printed: they may contain a password, and others can read the console.
    lines = "\n".join(
        f'as_node bash -eo pipefail -c {shlex.quote(command)} || fail "setup command {i} of {total} failed"'
        for i, command in enumerate(commands, 1)
    )
    return f"# setup\numask 022\napt_lists\n{lines}\n"


def install_packages(requirements: str, python: str | None) -> str:
    """Return the step that installs the spec's `packages` or `requirements` with uv."""
    python_option = f" --python {shlex.quote(python)}" if python else ""
    text, options = translate(requirements)
    more_options = "".join(f" {shlex.quote(option)}" for option in options)
    git = "command -v git >/dev/null || apt_install git\n" if uses_git(text) else ""
    return f"""\
# The Python environment, with the image's uv, or else the one from PyPI.
{write_file("/etc/planapply/requirements.txt", text)}\
umask 022
{git}\
if ! uv=$(command -v uv); then
  if ! python3 -m venv /opt/planapply/uv; then
    apt_install python3-venv
    python3 -m venv --clear /opt/planapply/uv
  fi
  as_node /opt/planapply/uv/bin/pip install --quiet uv=={UV_VERSION} ||
    fail "cannot install uv {UV_VERSION}"
  uv=/opt/planapply/uv/bin/uv
fi
python=/opt/planapply/env/bin/python
as_node "$uv" venv{python_option} /opt/planapply/env
as_node "$uv" pip install{more_options} --python "$python" --requirement /etc/planapply/requirements.txt
{DASK_CHECK}\
as_node "$python" -c "$has_dask" || fail "the packages of [environment] do not include Dask"
dask=("$python") inside=("$python")
"""


def install_docker(proxies: Mapping[str, str]) -> str:
    """Return the step that installs Docker, before `setup`, which may log in to a registry.

    The proxies, by their lowercase names, are for Docker's daemon, which does not see the variables of
    the command that calls it.
    """
    configure = ""
    if proxies:
        lines = "".join(
            f'Environment="{name.upper()}={_escape_unit(value)}"\n'
            for name, value in proxies.items()
        )
        folder = "/etc/systemd/system/docker.service.d"
        configure = (
            f"mkdir -p {folder}\n"
            + write_file(f"{folder}/90-planapply.conf", f"[Service]\n{lines}")
            + "systemctl daemon-reload\nsystemctl try-restart docker\n"
        )
    return f"""\
# Docker. An image without apt-get must have it, or setup must install it.
{configure}\
umask 022
if ! command -v docker >/dev/null && command -v apt-get >/dev/null; then
  apt_install docker.io
fi
"""


def _escape_unit(value: str) -> str:
    """Return a value as it is written in quotes in a systemd unit."""
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("\n", "\\n")):
        value = value.replace(character, escaped)
    return value


def pull_container(image: str, secrets: Iterable[str] = ()) -> str:
    """Return the step that pulls a container for the Dask processes, with the VM's network and GPUs.

    `secrets` are the names of the secret variables, which are not in `environment`.
    """
    more = "".join(f" {name}" for name in secrets)
    return f"""\
# The container.
umask 022
image={shlex.quote(image)}
docker=$(command -v docker) || fail "the image has no docker, and no apt-get to install it"
as_node "$docker" pull --quiet "$image"
{DASK_CHECK}\
"$docker" run --rm --entrypoint python "$image" -c "$has_dask" ||
  fail "the container image $image has no Dask"
dask=("$docker" run --rm --name planapply --init --network host --user 0)
dask+=(--volume /etc/planapply:/etc/planapply:ro --volume /var/lib/planapply:/var/lib/planapply)
for pair in "${{environment[@]}}"{more}; do dask+=(--env "${{pair%%=*}}"); done
if command -v nvidia-smi >/dev/null; then dask+=(--gpus all); fi
dask+=("$image" python)
inside=("$docker" exec planapply python)
"""


def find_image_python() -> str:
    """Return the step that finds a Python with Dask in the VM's image."""
    return f"""\
# A Python of the image that has Dask.
{DASK_CHECK}\
python=
for each in /opt/planapply/bin/python python3 python; do
  if as_node "$each" -c "$has_dask" 2>/dev/null; then python=$each; break; fi
done
[ -n "$python" ] || fail "the image has no Python with Dask: set packages or docker in \
[environment]"
umask 022
dask=("$python") inside=("$python")
"""
