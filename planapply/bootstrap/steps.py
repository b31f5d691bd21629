"""The steps of the script, each of them shell."""

import shlex
from collections.abc import Sequence

START_MARKER, END_MARKER = "planapply: start", "planapply: end"
"""How lines begin that a node prints on its console: what follows its end is the machine's shutdown."""

SCRIPT_HEADER = """\
#!/bin/bash
# From planapply, for {group} of the cluster {cluster}; it runs once, at the first boot.
set -euo pipefail
umask 077
export HOME=/root DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/planapply /opt/planapply /var/lib/planapply
chmod 700 /etc/planapply
cd /var/lib/planapply

# A node that can't start is of no use and costs money: it says why on its console, and ends.
# EC2 terminates what powers off.
fail() {{ echo "planapply: $*"; exit 1; }}
at_exit() {{
  if [ "$1" != 0 ]; then
    echo "planapply: end of this VM: it can't start, and why stands above"
    systemctl --no-block poweroff
  fi
}}
trap 'at_exit $?' EXIT
"""

TTL_TIMER = """\
# ttl: it ends at this age, also if what follows fails, and after a reboot.
cat >/etc/systemd/system/planapply-ttl.service <<'END'
[Unit]
Description=The end of this node by its ttl
[Service]
Type=oneshot
ExecStart=/bin/systemctl --no-block poweroff
END
cat >/etc/systemd/system/planapply-ttl.timer <<END
[Unit]
Description=When this node ends by its ttl
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
# EC2's metadata (IMDSv2): prints one item, looking every so many seconds until it is there.
cat >/etc/planapply/metadata.py <<'END'
import sys, time, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(path, method="GET", **headers):
    url = f"http://169.254.169.254/latest/{path}"
    headers = {f"X-aws-ec2-metadata-{key}".replace("_", "-"): headers[key] for key in headers}
    request = urllib.request.Request(url, method=method, headers=headers)
    return opener.open(request, timeout=5).read().decode()


while True:
    try:
        token = ask("api/token", "PUT", token_ttl_seconds="60")
        print(ask(f"meta-data/{sys.argv[1]}", token=token))
        break
    except OSError:
        time.sleep(float(sys.argv[2]))
END
"""

DASK_CHECK = """\
has_dask='import importlib.util as u, sys; sys.exit(u.find_spec("distributed") is None)'
"""

APT_FUNCTION = """\
apt_lists() {
  if command -v apt-get >/dev/null; then
    # Other jobs of a first boot hold its lock for a while; most images come without its lists.
    echo 'DPkg::Lock::Timeout "300";' >/etc/apt/apt.conf.d/90planapply
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*')" ] || apt-get update || true
  fi
}
"""

DASK_SERVICE = """\
# Its Dask process. Without it the VM is of no use, so that its end is the VM's: idle for too long,
# retired, its scheduler gone for good, or crashed.
declare -p environment workers dask inside >/etc/planapply/node
cat >/etc/planapply/run <<'END'
#!/bin/bash
. /etc/planapply/node
echo "planapply: start of the Dask process"
exec env "${environment[@]}" "${dask[@]}" -m distributed.cli.dask_spec @SCHEDULER@\\
  --spec "$(</etc/planapply/spec.json)"
END
chmod 700 /etc/planapply/run
cat >/etc/systemd/system/planapply.service <<'END'
[Unit]
Description=The Dask process of this node
Wants=network-online.target
After=network-online.target docker.service
SuccessAction=poweroff
FailureAction=poweroff
[Service]
ExecStart=/etc/planapply/run
ExecStopPost=/bin/echo "planapply: end of the Dask process, and so of this VM"
WorkingDirectory=/var/lib/planapply
StandardOutput=journal+console
StandardError=journal+console
LimitNOFILE=1048576
TimeoutStopSec=60
[Install]
WantedBy=multi-user.target
END
"""

SPOT_SERVICE = """\
# EC2 tells two minutes ahead that it takes a spot VM back: time for its workers to hand what they
# hold to the others.
cat >/etc/planapply/spot <<'END'
#!/bin/bash
. /etc/planapply/node
python3 /etc/planapply/metadata.py spot/instance-action 5
echo "planapply: EC2 takes this spot VM back; its workers retire"
exec env "${environment[@]}" "${inside[@]}" -c '
import sys
from distributed import Client
with Client(sys.argv[1], timeout=10) as client:
    client.retire_workers(names=sys.argv[2:], remove=True, close_workers=True)
' @SCHEDULER@ "${workers[@]}"
END
chmod 700 /etc/planapply/spot
cat >/etc/systemd/system/planapply-spot.service <<'END'
[Unit]
Description=Retires its Dask workers when EC2 takes this VM back
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
    """Write a file that only root can read; it ends in a line's end."""
    delimiter = "END"
    while delimiter in text.splitlines():
        delimiter += "_"
    return f"cat >{path} <<'{delimiter}'\n{text.removesuffix(chr(10))}\n{delimiter}\n"


def run_setup(commands: Sequence[str]) -> str:
    """The user's own commands, in a shell of their own each."""
    if not commands:
        return ""
    total = len(commands)
    # Not printed: they may hold a password, and more people can read the console.
    lines = "\n".join(
        f'as_node bash -c {shlex.quote(command)} || fail "setup command {i} of {total} failed"'
        for i, command in enumerate(commands, 1)
    )
    return f"# setup\numask 022\napt_lists\n{lines}\n"


def install_packages(requirements: str, python: str | None) -> str:
    """What the spec's `packages` or `requirements` name, installed by uv."""
    python_option = f" --python {shlex.quote(python)}" if python else ""
    return f"""\
# Its Python environment, by uv: the image's, or else PyPI's.
{write_file("/etc/planapply/requirements.txt", requirements)}\
umask 022
if ! uv=$(command -v uv); then
  if ! python3 -m venv /opt/planapply/uv; then
    apt_lists
    apt-get install -y python3-venv
    python3 -m venv --clear /opt/planapply/uv
  fi
  as_node /opt/planapply/uv/bin/pip install --quiet uv
  uv=/opt/planapply/uv/bin/uv
fi
python=/opt/planapply/env/bin/python
as_node "$uv" venv{python_option} /opt/planapply/env
as_node "$uv" pip install --python "$python" --requirement /etc/planapply/requirements.txt
{DASK_CHECK}\
as_node "$python" -c "$has_dask" || fail "what [environment] installs brings no Dask"
dask=("$python") inside=("$python")
"""


def pull_container(image: str) -> str:
    """A container for the Dask processes, on the VM's own network, with its GPUs."""
    return f"""\
# Its container.
umask 022
image={shlex.quote(image)}
if ! docker=$(command -v docker); then
  apt_lists
  apt-get install -y docker.io
  docker=$(command -v docker)
fi
as_node "$docker" pull --quiet "$image"
{DASK_CHECK}\
"$docker" run --rm --entrypoint python "$image" -c "$has_dask" ||
  fail "the container image $image has no Dask"
dask=("$docker" run --rm --name planapply --init --network host --user 0)
dask+=(--volume /etc/planapply:/etc/planapply:ro --volume /var/lib/planapply:/var/lib/planapply)
for pair in "${{environment[@]}}"; do dask+=(--env "${{pair%%=*}}"); done
if command -v nvidia-smi >/dev/null; then dask+=(--gpus all); fi
dask+=("$image" python)
inside=("$docker" exec planapply python)
"""


def find_image_python() -> str:
    """What the image has already."""
    return f"""\
# The image's own Python that has Dask.
{DASK_CHECK}\
python=
for each in /opt/planapply/bin/python python3 python; do
  if as_node "$each" -c "$has_dask" 2>/dev/null; then python=$each; break; fi
done
[ -n "$python" ] || fail "this image's Python has no Dask: write packages, or docker, \
under [environment]"
umask 022
dask=("$python") inside=("$python")
"""
