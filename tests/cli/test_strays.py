"""VMs with the cluster's tags that are none of its nodes: the plan terminates them."""

from cli.commands import Run
from fake_provider import FakeCloud, Machine


def test_duplicate_vm_of_a_name_is_terminated(run: Run, cloud: FakeCloud) -> None:
    run("apply", "--auto-approve", "--no-wait", "--set", "workers.cpu.count=1")
    twin = cloud.machines["i-0001"].vm.model_copy(update={"id": "i-twin"})
    cloud.machines["i-twin"] = Machine(twin, twin.launched_at or 0.0)
    result = run("plan", "--set", "workers.cpu.count=1")
    assert result.out == (
        'planapply will change cluster "demo" (fake, mars):\n'
        "\n"
        "  -   i-twin\n"
        "        (duplicate VM for node cpu-0)\n"
        "\n"
        "Plan: 0 to add, 0 to change, 1 to destroy.\n"
        "Cost: 1.60 USD/h (list prices of 2025-03-02)\n"
    )
    assert run("apply", "--auto-approve", "--no-wait", "--set", "workers.cpu.count=1").code == 0
    assert {vm.id for vm in cloud.live_vms()} == {"i-0000", "i-0001"}
    assert "No changes." in run("plan", "--set", "workers.cpu.count=1").out
