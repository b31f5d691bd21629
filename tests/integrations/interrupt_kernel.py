"""Run cells in a kernel and interrupt some, in the venv of the integrations; print each result as JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any

from jupyter_client.manager import start_new_kernel

APPLY = 'report = planapply.apply("cluster.toml")\nprint(report)'
WIDGET = """
cluster = planapply.Cluster.from_spec("cluster.toml")
tabs = cluster._widget()
controls, message = tabs.children[1].children[1:]
(nodes, scale), (minimum, maximum, adapt) = (row.children for row in controls.children)
shown = [w.description for w in (nodes, scale, minimum, maximum, adapt)]
nodes.value = 9
scale.click()
shown.append(message.value)
nodes.value = 1
scale.click()
shown.append(message.value)
cluster.wait_for_workers(2)
adapt.click()
shown += [message.value, (minimum.value, maximum.value), cluster.is_adapting()]
cluster.stop_adapting()
cluster.close()
print(shown)
"""
IDLE = 'import time; print("sleeping"); time.sleep(600)'
COMPUTE = """
with planapply.connect("cluster.toml") as client:
    print(client.submit(sum, [1, 2]).result())
"""

manager, client = start_new_kernel(kernel_name="python3")


def run(code: str, interrupt_when: Callable[[dict[str, Any]], bool] | None = None) -> None:
    """Run a cell, interrupt it at the first message that qualifies, and print its outputs."""
    request, outputs, interrupted = client.execute(code), [], False
    while True:
        message = client.get_iopub_msg(timeout=300)
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            break
        if interrupt_when and not interrupted and interrupt_when(content):
            manager.interrupt_kernel()
            interrupted = True
        if kind in ("stream", "error", "display_data", "update_display_data"):
            text = content.get("text") or content.get("ename") or content["data"]["text/plain"]
            outputs.append([kind, text])
    client.get_shell_msg(timeout=300)
    print(json.dumps(outputs), flush=True)


try:
    run("import planapply")
    run(APPLY, lambda content: "launching" in content.get("data", {}).get("text/plain", ""))
    run(APPLY)
    run(IDLE, lambda content: "sleeping" in content.get("text", ""))
    run(COMPUTE)
    run(WIDGET)
    run(f"!{sys.executable} -m planapply destroy -f cluster.toml")
    run('print(planapply.destroy("cluster.toml", progress=False))')
    run("import threading; print([t.name for t in threading.enumerate() if t.name == 'planapply'])")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
