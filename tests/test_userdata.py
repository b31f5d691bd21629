"""The script that turns a bare VM into a node: complete, checked by shellcheck, and run by bash."""

import gzip
import shutil
import subprocess
from typing import Any

import pytest
from inline_snapshot import snapshot

from planapply.bootstrap import build_user_data
from planapply.bootstrap.processes import plugin_source
from planapply.bootstrap.userdata import build_script
from planapply.fleet.tls import make_tls
from planapply.model.node import Environment, NodeConfig
from planapply.model.state import TLS

ADDRESS = "tls://10.0.0.5:8786"
PAIR = TLS(certificate="CERTIFICATE\n", key="KEY\n")  # type: ignore[arg-type]
SCHEDULER = NodeConfig(group="scheduler", cls="distributed.Scheduler", security="tls")
WORKER = NodeConfig(group="cpu", cls="distributed.Nanny", security="tls")
MANY = [f"cpu-{i}" for i in range(100)]


def with_environment(config: NodeConfig, **environment: Any) -> NodeConfig:
    return config.model_copy(update={"environment": Environment(**environment)})


KINDS = {
    "scheduler": (SCHEDULER, ["scheduler"], None),
    "worker": (WORKER, ["cpu-7"], ADDRESS),
    "workers": (WORKER.model_copy(update={"processes": 4}), [*MANY, "cpu-200"], ADDRESS),
    "spot": (WORKER.model_copy(update={"spot": True}), MANY, ADDRESS),
    "ttl": (WORKER.model_copy(update={"ttl": 43200.0}), MANY, ADDRESS),
    "packages": (with_environment(WORKER, packages=("dask[distributed]",)), MANY, ADDRESS),
    "requirements": (
        with_environment(WORKER, requirements="dask\n", python="3.12", setup=("true", "a 'b'")),
        MANY,
        ADDRESS,
    ),
    "everything": (
        with_environment(
            WORKER.model_copy(update={"processes": 2}),
            requirements="-e git+https://h/a/b#egg=b\n--pre\ndask  # it's\n",
            env={"PATH": "/o'x:$PATH", "HTTPS_PROXY": "http://p%20:8080", "no_proxy": "h, i"},
            setup=("curl x | bash",),
        ),
        MANY,
        ADDRESS,
    ),
    "docker behind a proxy": (
        with_environment(WORKER, docker="x@sha256:" + "0" * 64, env={"HTTP_PROXY": 'http://"%'}),
        MANY,
        ADDRESS,
    ),
    "docker": (
        with_environment(WORKER, docker="daskdev/dask:latest", env={"A": "b c"}),
        MANY,
        ADDRESS,
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def text_of(kind: str) -> str:
    config, names, scheduler = KINDS[kind]
    return build_script(config, names, scheduler, PAIR, cluster="genomics")


def test_complete_worker_script() -> None:
    config = NodeConfig(
        group="cpu",
        cls="distributed.Nanny",
        options={"resources": {"SSD": 1}},
        processes=2,
        spot="prefer",
        security="tls",
        ttl=43200.0,
        environment=Environment(
            python="3.12",
            packages=("dask[distributed]==2026.8.0", "pandas"),
            env={"OMP_NUM_THREADS": "1"},
            setup=("apt-get install -y graphviz",),
        ),
    )
    names = [*(f"cpu-{i}" for i in range(20)), "cpu-40"]
    assert build_script(config, names, ADDRESS, PAIR, cluster="genomics") == snapshot("""\
#!/bin/bash
# Written by planapply for cpu of the cluster genomics; runs once, at the first boot.
set -euo pipefail
umask 077
export HOME=/root DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/planapply /opt/planapply /var/lib/planapply
chmod 700 /etc/planapply
cd /var/lib/planapply

# A node that cannot start is useless and costs money: print the reason on the console, and power
# off. EC2 terminates a VM that powers off.
fail() { echo "planapply: $*"; exit 1; }
at_exit() {
  if [ "$1" != 0 ]; then
    echo "planapply: this VM ends: failed"
    echo "planapply: end: this node cannot start; the reason is above. Shutting down the VM."
    systemctl --no-block poweroff
  fi
}
trap 'at_exit $?' EXIT

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
OnCalendar=$(date -u -d '+43200 seconds' '+%F %T UTC')
AccuracySec=1s
Persistent=true
[Install]
WantedBy=timers.target
END
systemctl daemon-reload
systemctl enable --now planapply-ttl.timer

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

# The name of this VM, by its index in the batch.
names=(cpu-{0..19} cpu-40)
name=${names[$(python3 /etc/planapply/metadata.py ami-launch-index 1)]}
echo "planapply: this is $name"

cat >/etc/planapply/tls-certificate.pem <<'END'
CERTIFICATE
END
cat >/etc/planapply/tls-key.pem <<'END'
KEY
END

# The environment variables of the Dask processes, and of the installation of their packages.
environment=(
  DASK_TEMPORARY_DIRECTORY=/var/lib/planapply
  OMP_NUM_THREADS=1
  DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
  DASK_DISTRIBUTED__COMM__TLS__CA_FILE=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY=/etc/planapply/tls-key.pem
  DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY=/etc/planapply/tls-key.pem
  DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=/etc/planapply/tls-key.pem
  PLANAPPLY_CLUSTER=genomics
  "PLANAPPLY_NODE=$name"
)
as_node() { env "${environment[@]}" "$@"; }

# The Dask workers and their options.
workers=("$name"-{0..1})
spec='{"@NODE@-0": {"cls": "distributed.Nanny", "opts": {"death_timeout": 600, "host": "@HOST@", "memory_limit": 0.5, "nthreads": @THREADS@, "resources": {"SSD": 1}, "name": "@NODE@-0"}}, "@NODE@-1": {"cls": "distributed.Nanny", "opts": {"death_timeout": 600, "host": "@HOST@", "memory_limit": 0.5, "nthreads": @THREADS@, "resources": {"SSD": 1}, "name": "@NODE@-1"}}}'
spec=${spec//@NODE@/$name}
threads=$(($(nproc) / 2))
spec=${spec//@THREADS@/$((threads > 0 ? threads : 1))}
# The workers listen only on the address from which this VM reaches the scheduler: the private one.
address='import socket as s, sys; c = s.socket(s.AF_INET, s.SOCK_DGRAM); c.connect((sys.argv[1], 9)); print(c.getsockname()[0])'
host=$(python3 -c "$address" 10.0.0.5) || fail "this VM has no route to the scheduler"
spec=${spec//@HOST@/$host}
printf '%s\\n' "$spec" >/etc/planapply/spec.json

apt_lists() {
  if command -v apt-get >/dev/null; then
    # Other jobs of a first boot hold apt's lock for a while; most images have no package lists.
    echo 'DPkg::Lock::Timeout "300";' >/etc/apt/apt.conf.d/90planapply
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*')" ] || apt-get update || true
  fi
}
apt_install() {
  command -v apt-get >/dev/null || fail "the image has no $1, and no apt-get to install it"
  apt_lists
  apt-get install -y "$1" || fail "cannot install $1 with apt-get"
}

# setup
umask 022
apt_lists
as_node bash -eo pipefail -c 'apt-get install -y graphviz' || fail "setup command 1 of 1 failed"

# The Python environment, with the image's uv, or else the one from PyPI.
cat >/etc/planapply/requirements.txt <<'END'
dask[distributed]==2026.8.0
pandas
END
umask 022
if ! uv=$(command -v uv); then
  if ! python3 -m venv /opt/planapply/uv; then
    apt_install python3-venv
    python3 -m venv --clear /opt/planapply/uv
  fi
  as_node /opt/planapply/uv/bin/pip install --quiet uv==0.13.9 ||
    fail "cannot install uv 0.13.9"
  uv=/opt/planapply/uv/bin/uv
fi
python=/opt/planapply/env/bin/python
as_node "$uv" venv --python 3.12 /opt/planapply/env
as_node "$uv" pip install --python "$python" --requirement /etc/planapply/requirements.txt
has_dask='import importlib.util as u, sys; sys.exit(u.find_spec("distributed") is None)'
as_node "$python" -c "$has_dask" || fail "the packages of [environment] do not include Dask"
dask=("$python") inside=("$python")

# The Dask process. When it stops, the VM powers off: after idle_timeout or no_client_timeout, when it was
# retired, when its scheduler no longer exists, or after a crash.
declare -p environment workers dask inside >/etc/planapply/node
cat >/etc/planapply/run <<'END'
#!/bin/bash
. /etc/planapply/node
echo "planapply: start: Dask process"
exec env "${environment[@]}" "${dask[@]}" -m distributed.cli.dask_spec tls://10.0.0.5:8786 \\
  --spec "$(</etc/planapply/spec.json)"
END
# Printed unless the VM shuts down already, which has a reason of its own.
cat >/etc/planapply/ended <<'END'
#!/bin/bash
scheduler=/dev/tcp/10.0.0.5/8786
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
' "$1" "$vm" tls://10.0.0.5:8786 "${@:2}"
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

systemctl daemon-reload
systemctl enable --now --no-block planapply.service planapply-spot.service
""")


def test_complete_scheduler_script() -> None:
    config = with_environment(
        SCHEDULER.model_copy(update={"idle_timeout": 1800.0}), docker="daskdev/dask:latest"
    )
    script = build_script(config, ["scheduler"], None, PAIR, cluster="genomics")
    assert script.replace(plugin_source(), "(plugin)\n") == snapshot("""\
#!/bin/bash
# Written by planapply for scheduler of the cluster genomics; runs once, at the first boot.
set -euo pipefail
umask 077
export HOME=/root DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/planapply /opt/planapply /var/lib/planapply
chmod 700 /etc/planapply
cd /var/lib/planapply

# A node that cannot start is useless and costs money: print the reason on the console, and power
# off. EC2 terminates a VM that powers off.
fail() { echo "planapply: $*"; exit 1; }
at_exit() {
  if [ "$1" != 0 ]; then
    echo "planapply: this VM ends: failed"
    echo "planapply: end: this node cannot start; the reason is above. Shutting down the VM."
    systemctl --no-block poweroff
  fi
}
trap 'at_exit $?' EXIT

name=scheduler

cat >/etc/planapply/tls-certificate.pem <<'END'
CERTIFICATE
END
cat >/etc/planapply/tls-key.pem <<'END'
KEY
END

# planapply's plugin for the scheduler.
cat >/etc/planapply/planapply_plugin.py <<'END'
(plugin)
END
cat >/var/lib/planapply/planapply-lifetimes.json <<'END'
{"idle_timeout":1800.0}
END

# The environment variables of the Dask processes, and of the installation of their packages.
environment=(
  DASK_TEMPORARY_DIRECTORY=/var/lib/planapply
  DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
  DASK_DISTRIBUTED__COMM__TLS__CA_FILE=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY=/etc/planapply/tls-key.pem
  DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY=/etc/planapply/tls-key.pem
  DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT=/etc/planapply/tls-certificate.pem
  DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=/etc/planapply/tls-key.pem
  PLANAPPLY_PLUGIN=/etc/planapply/planapply_plugin.py
  PLANAPPLY_LIFETIMES=/var/lib/planapply/planapply-lifetimes.json
  PLANAPPLY_CLUSTER=genomics
  "PLANAPPLY_NODE=$name"
)
as_node() { env "${environment[@]}" "$@"; }

# The Dask process: a scheduler.
workers=()
printf '%s\\n' '{"cls": "distributed.Scheduler", "opts": {"protocol": "tls", "dashboard": true, "idle_timeout": 1800.0, "port": 8786}}' >/etc/planapply/spec.json

apt_lists() {
  if command -v apt-get >/dev/null; then
    # Other jobs of a first boot hold apt's lock for a while; most images have no package lists.
    echo 'DPkg::Lock::Timeout "300";' >/etc/apt/apt.conf.d/90planapply
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*')" ] || apt-get update || true
  fi
}
apt_install() {
  command -v apt-get >/dev/null || fail "the image has no $1, and no apt-get to install it"
  apt_lists
  apt-get install -y "$1" || fail "cannot install $1 with apt-get"
}

# Docker. An image without apt-get must have it, or setup must install it.
umask 022
if ! command -v docker >/dev/null && command -v apt-get >/dev/null; then
  apt_install docker.io
fi

# The container.
umask 022
image=daskdev/dask:latest
docker=$(command -v docker) || fail "the image has no docker, and no apt-get to install it"
as_node "$docker" pull --quiet "$image"
has_dask='import importlib.util as u, sys; sys.exit(u.find_spec("distributed") is None)'
"$docker" run --rm --entrypoint python "$image" -c "$has_dask" ||
  fail "the container image $image has no Dask"
dask=("$docker" run --rm --name planapply --init --network host --user 0)
dask+=(--volume /etc/planapply:/etc/planapply:ro --volume /var/lib/planapply:/var/lib/planapply)
for pair in "${environment[@]}"; do dask+=(--env "${pair%%=*}"); done
if command -v nvidia-smi >/dev/null; then dask+=(--gpus all); fi
dask+=("$image" python)
inside=("$docker" exec planapply python)

# The Dask process. When it stops, the VM powers off: after idle_timeout or no_client_timeout, when it was
# retired, when its scheduler no longer exists, or after a crash.
declare -p environment workers dask inside >/etc/planapply/node
cat >/etc/planapply/run <<'END'
#!/bin/bash
. /etc/planapply/node
echo "planapply: start: Dask process"
exec env "${environment[@]}" "${dask[@]}" -c 'import os, runpy; runpy.run_path(os.environ['"'"'PLANAPPLY_PLUGIN'"'"'], run_name='"'"'__main__'"'"')' \\
  --spec "$(</etc/planapply/spec.json)"
END
# Printed unless the VM shuts down already, which has a reason of its own.
cat >/etc/planapply/ended <<'END'
#!/bin/bash
scheduler=''
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

systemctl daemon-reload
systemctl enable --now --no-block planapply.service
""")


@kinds
def test_shellcheck_finds_no_problem(kind: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (Debian's package of that name)")
    done = subprocess.run(
        [shellcheck, "--shell=bash", "-"], input=text_of(kind), text=True, capture_output=True
    )
    assert done.stdout == ""


@kinds
def test_script_is_valid_shell_and_python(kind: str) -> None:
    text = text_of(kind)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    if "metadata.py <<" in text:
        program = text.split("metadata.py <<'END'\n")[1].split("\nEND\n")[0]
        compile(program, "metadata.py", "exec")


@kinds
def test_script_fits_with_a_real_key_and_is_deterministic(kind: str) -> None:
    config, names, scheduler = KINDS[kind]
    tls = make_tls("genomics")
    made = build_user_data(config, names, scheduler, tls, cluster="genomics")
    assert len(made) < 16384 / 3
    assert made == build_user_data(config, names, scheduler, tls, cluster="genomics")
    assert gzip.decompress(made).decode() == build_script(
        config, names, scheduler, tls, cluster="genomics"
    )


def test_script_contains_the_key_verbatim() -> None:
    tls = make_tls("genomics")
    text = build_script(WORKER, MANY, ADDRESS, tls, cluster="genomics")
    assert tls.certificate in text
    assert tls.key.get_secret_value() in text
