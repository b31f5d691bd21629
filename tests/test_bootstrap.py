"""The commands that nodes run."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from planapply.bootstrap import build_processes, dask_spec
from planapply.bootstrap.processes import plugin_source
from planapply.model.names import worker_names
from planapply.model.node import Environment, NodeConfig
from planapply.model.state import TLS

SCHEDULER = NodeConfig(group="scheduler", cls="distributed.Scheduler")
WORKER = NodeConfig(group="cpu", cls="distributed.Nanny")
PAIR = TLS(certificate="CERTIFICATE", key="KEY")  # type: ignore[arg-type]
texts = st.text(st.characters(codec="utf-8")) | st.sampled_from(["{port}", "{nthreads}", "{host}"])
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
options = st.dictionaries(texts, values | st.lists(values) | st.dictionaries(texts, values))


def filled(argv: tuple[str, ...]) -> Any:
    """Return the `--spec` document after a provider has replaced the placeholders."""
    assert argv[-2] == "--spec"
    return json.loads(argv[-1].replace("{port}", "8786").replace("{nthreads}", "4"))


def test_scheduler_boot() -> None:
    (boot,) = build_processes(SCHEDULER, ["scheduler"], None, None, cluster="genomics")
    assert boot.argv == snapshot(
        (
            "-c",
            "import os, runpy; runpy.run_path(os.environ['PLANAPPLY_PLUGIN'], run_name='__main__')",
            "--spec",
            '{"cls":"distributed.Scheduler","opts":{"protocol":"tcp","dashboard":true,"host":"{host}","port":{port}}}',
        )
    )
    assert boot.env == snapshot({"PLANAPPLY_CLUSTER": "genomics", "PLANAPPLY_NODE": "scheduler"})
    assert boot.files == {
        "planapply_plugin.py": plugin_source(),
        "planapply-lifetimes.json": snapshot("{}"),
    }
    assert boot.file_env == snapshot(
        {
            "PLANAPPLY_PLUGIN": "planapply_plugin.py",
            "PLANAPPLY_LIFETIMES": "planapply-lifetimes.json",
        }
    )


def test_user_options_win() -> None:
    config = SCHEDULER.model_copy(
        update={
            "idle_timeout": 1800.0,
            "options": {"port": 9000, "dashboard_address": ":9001", "interface": "lo"},
        }
    )
    assert dask_spec(config, "scheduler") == snapshot(
        {
            "cls": "distributed.Scheduler",
            "opts": {
                "protocol": "tcp",
                "idle_timeout": 1800.0,
                "port": 9000,
                "dashboard_address": ":9001",
                "interface": "lo",
            },
        }
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"host": "{host}"}),
        ({"dashboard_address": ":9001"}, {"host": "{host}", "dashboard_address": "{host}:9001"}),
        ({"dashboard_address": 9001}, {"host": "{host}", "dashboard_address": "{host}:9001"}),
        (
            {"dashboard_address": [":0", "0.0.0.0:1"]},
            {"host": "{host}", "dashboard_address": ["{host}:0", "0.0.0.0:1"]},
        ),
        ({"host": "0.0.0.0"}, {"host": "0.0.0.0"}),
        (
            {"interface": "eth0", "dashboard_address": ":1"},
            {"interface": "eth0", "dashboard_address": ":1"},
        ),
    ],
)
@pytest.mark.parametrize("config", [SCHEDULER, WORKER])
def test_started_processes_listen_on_the_address_of_their_vm(
    config: NodeConfig, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = config.model_copy(update={"options": options})
    scheduler = None if config is SCHEDULER else "tcp://127.0.0.1:8786"
    (boot,) = build_processes(config, [config.group], scheduler, None, cluster="c")
    document = filled(boot.argv)
    process = document if "opts" in document else document[config.group]
    keys = ("host", "interface", "dashboard_address")
    assert {key: process["opts"][key] for key in keys if key in process["opts"]} == expected


def test_several_workers_share_a_machine() -> None:
    config = WORKER.model_copy(update={"processes": 2, "options": {"resources": {"SSD": 1}}})
    (boot,) = build_processes(config, ["cpu-3"], "tcp://10.0.0.5:8786", None, cluster="c")
    assert boot.argv[2] == "tcp://10.0.0.5:8786"
    assert filled(boot.argv) == snapshot(
        {
            "cpu-3-0": {
                "cls": "distributed.Nanny",
                "opts": {
                    "death_timeout": 600,
                    "host": "{host}",
                    "memory_limit": 0.5,
                    "nthreads": 4,
                    "resources": {"SSD": 1},
                    "name": "cpu-3-0",
                },
            },
            "cpu-3-1": {
                "cls": "distributed.Nanny",
                "opts": {
                    "death_timeout": 600,
                    "host": "{host}",
                    "memory_limit": 0.5,
                    "nthreads": 4,
                    "resources": {"SSD": 1},
                    "name": "cpu-3-1",
                },
            },
        }
    )


def test_tls_is_passed_in_the_environment() -> None:
    config = WORKER.model_copy(
        update={"security": "tls", "environment": Environment(env={"OMP_NUM_THREADS": "1"})}
    )
    (boot,) = build_processes(config, ["cpu-0"], "tls://10.0.0.5:8786", PAIR, cluster="c")
    assert boot.env == snapshot(
        {
            "OMP_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
            "PLANAPPLY_CLUSTER": "c",
            "PLANAPPLY_NODE": "cpu-0",
        }
    )
    assert boot.file_env == snapshot(
        {
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": "tls-certificate.pem",
            "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT": "tls-certificate.pem",
            "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY": "tls-key.pem",
            "DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT": "tls-certificate.pem",
            "DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": "tls-key.pem",
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": "tls-certificate.pem",
            "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": "tls-key.pem",
        }
    )
    assert boot.files == {"tls-certificate.pem": "CERTIFICATE", "tls-key.pem": "KEY"}
    assert "KEY" not in " ".join(boot.argv).replace("tls-key.pem", "")


def test_braces_of_the_user_are_no_placeholders() -> None:
    config = SCHEDULER.model_copy(
        update={
            "environment": Environment(env={"LINK": "http://{host}:{port}/{folder}"}),
            "options": {"http_prefix": "/{host}/{port}", "services": {"{nthreads}": ["{port}"]}},
        }
    )
    (boot,) = build_processes(config, ["scheduler"], None, None, cluster="c")
    assert boot.env["LINK"] == "http://{host}:{port}/{folder}"
    assert boot.argv[-1] == snapshot(
        '{"cls":"distributed.Scheduler","opts":{"protocol":"tcp","dashboard":true,"host":"{host}","http_prefix":"/\\u007bhost}/\\u007bport}","services":{"\\u007bnthreads}":["\\u007bport}"]},"port":{port}}}'
    )
    assert (
        json.loads(boot.argv[-1].replace("{port}", "1"))["opts"].items() >= config.options.items()
    )


@given(options, st.integers(1, 9), st.integers(0, 99))
def test_every_worker_gets_its_name_and_user_options(
    given: dict[str, Any], processes: int, place: int
) -> None:
    config = WORKER.model_copy(update={"options": given, "processes": processes})
    workers = dask_spec(config, f"cpu-{place}")
    assert list(workers) == worker_names(f"cpu-{place}", processes)
    for worker, spec in workers.items():
        assert spec["cls"] == "distributed.Nanny"
        assert spec["opts"].items() >= (given | {"name": worker}).items()
    if "memory_limit" not in given and processes > 1:
        assert 0.999 < sum(spec["opts"]["memory_limit"] for spec in workers.values()) < 1.001


@given(options, st.integers(1, 9))
def test_arguments_match_the_document(given: dict[str, Any], processes: int) -> None:
    config = WORKER.model_copy(update={"options": given, "processes": processes})
    (boot,) = build_processes(config, ["cpu-0"], "tcp://10.0.0.5:8786", None, cluster="c")
    threads = given.get("nthreads", 4)
    document = dask_spec(config, "cpu-0")
    for spec in document.values():
        if processes > 1:
            spec["opts"]["nthreads"] = threads
    assert filled(boot.argv) == document
