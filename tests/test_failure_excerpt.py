"""The lines of a failed node's output that an error shows."""

import pytest
from inline_snapshot import snapshot

from planapply.dask.failure_excerpt import extract_causes

LOG = "2026-11-28 18:31:20,430 - distributed.nanny - "
NANNY = f"""\
{LOG}INFO -         Start Nanny at: 'tcp://127.0.0.1:33183'
{LOG}ERROR - Failed to initialize worker
Traceback (most recent call last):
  File "distributed/nanny.py", line 970, in run
    worker = worker_factory()
             ^^^^^^^^^^^^^^^^
TypeError: Server.__init__() got an unexpected keyword argument 'ntheads'
{LOG}ERROR - Worker failed to connect
{LOG}INFO - Nanny at 'tcp://127.0.0.1:33183' closed.
Traceback (most recent call last):
  File "distributed/nanny.py", line 970, in run
    worker = worker_factory()
^^^^^^^^^^^
  File "distributed/worker.py", line 704, in __init__
TypeError: Server.__init__() got an unexpected keyword argument 'ntheads'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "distributed/core.py", line 517, in start
RuntimeError: Nanny failed to start.
"""


def test_cause_is_shown_and_not_the_last_line() -> None:
    assert extract_causes(NANNY) == snapshot(
        "TypeError: Server.__init__() got an unexpected keyword argument 'ntheads'"
    )
    assert extract_causes(f"{NANNY}planapply: the Dask process stopped\n") == extract_causes(NANNY)


def test_exceptions_that_lead_to_one_another_are_kept() -> None:
    output = """\
Traceback (most recent call last):
  File "dask/utils.py", line 1, in parse_bytes
KeyError: 'lots'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "dask/utils.py", line 2, in parse_bytes
ValueError: Could not interpret 'lots' as a byte unit
in two lines

and no third
"""
    assert extract_causes(output) == snapshot("""\
KeyError: 'lots'
ValueError: Could not interpret 'lots' as a byte unit
in two lines\
""")


def test_another_cause_at_the_end_is_kept() -> None:
    harmless = "Traceback (most recent call last):\n  File 'x'\nOSError: retried\n"
    assert extract_causes(f"{harmless}{LOG}INFO - more\n{NANNY}") == snapshot("""\
OSError: retried
TypeError: Server.__init__() got an unexpected keyword argument 'ntheads'\
""")


def test_only_the_dask_process_counts_once_it_has_started() -> None:
    early = "Traceback (most recent call last):\n  File 'x'\nValueError: cloud-init's own\n"
    output = f"{early}planapply: start: Dask process\n{NANNY}"
    assert extract_causes(output) == extract_causes(NANNY)


@pytest.mark.parametrize("time", ["", "[ 7079.234018] ", "[10506.775894] "])
def test_console_of_a_vm(time: str) -> None:
    # The journal writes a prefix before each line, leaves out empty lines, and so does the VM itself.
    console = "".join(
        f"{time}run[118]: {line}\r\n[\x1b[0;32m  OK  \x1b[0m] Stopped a service.\r\n"
        for line in ("planapply: start: Dask process", *NANNY.splitlines())
        if line
    )
    early = f"{time}cloud-init[66]: Traceback (most recent call last):\r\n{time}cloud-init[66]: OSError\r\n"
    login = f"ip-172-31-0-4 login: {time}run[118]: a line\r\n{time}echo[9]: planapply: end: x\r\n"
    assert extract_causes(early + console + login) == extract_causes(NANNY)
    assert extract_causes(login) == "a line\nplanapply: end: x"
    failed = "planapply: setup command 2 of 3 failed\nplanapply: end: this node cannot start"
    lines = "".join(f"{time}cloud-init[66]: {line}\r\n" for line in failed.splitlines())
    assert extract_causes(early + lines) == "OSError\nplanapply: setup command 2 of 3 failed"


def test_reason_of_the_script_is_kept() -> None:
    output = """\
planapply: this is cpu-3
Traceback (most recent call last):
  File "mine.py", line 1, in <module>
ModuleNotFoundError: No module named 'yaml'
planapply: setup command 2 of 3 failed
planapply: end: this node cannot start; the reason is above. Shutting down the VM.
"""
    assert extract_causes(output) == snapshot("""\
ModuleNotFoundError: No module named 'yaml'
planapply: setup command 2 of 3 failed\
""")


def test_output_without_exceptions_ends_with_its_last_lines() -> None:
    lines = [f"line {i}" for i in range(10)]
    assert extract_causes("\n\n".join(lines)) == "\n".join(lines[-6:])
    assert extract_causes("") == ""
