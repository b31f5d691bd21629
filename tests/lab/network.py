"""Networks of the lab: a VPC with a router, an outside network called `home`, and security groups.

Everything here is in the lab's own namespaces, and is called only in its process.
"""

import subprocess
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

VPC = ip_network("172.31.0.0/16")
"""Network of moto's default VPC; all of its subnets are one bridge here."""
ROUTER = "172.31.0.1"
HOME, INTERNET = "203.0.113.7", "203.0.113.1"
"""Address of clients and of their gateway, which serves the cloud's API."""
METADATA = "169.254.169.254"

_ROUTER_RULES = f"""
table ip router {{
  map public {{ type ipv4_addr : ipv4_addr; }}
  map private {{ type ipv4_addr : ipv4_addr; }}
  chain in {{
    type nat hook prerouting priority dstnat;
    dnat to ip daddr map @public
  }}
  chain out {{
    type nat hook postrouting priority srcnat;
    ip saddr {VPC} ct status dnat snat to ip saddr map @private
  }}
  chain between {{
    type filter hook forward priority filter;
    iifname "home" ct state new ct status & dnat == 0 drop
  }}
}}
"""


def run(*command: str, text: str = "") -> None:
    """Run a command; raise if it fails."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")


def build() -> None:
    """Create the router, the bridge, and `home`."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run("ip", "netns", "add", "home")
    links = f"""
link set lo up
link add vpc type bridge
addr add {ROUTER}/{VPC.prefixlen} dev vpc
link set vpc up
addr add {METADATA}/32 dev vpc
link add home type veth peer name eth0 netns home
addr add {INTERNET}/24 dev home
link set home up
"""
    run("ip", "-batch", "-", text=links)
    configure_host(HOME, "203.0.113.0/24", INTERNET, "home")
    run("nft", "-f", "-", text=_ROUTER_RULES)


def configure_host(address: str, network: str, router: str, name: str) -> None:
    """Set the address and the route of the namespace `name`."""
    links = f"""
link set lo up
addr add {address}/{ip_network(network).prefixlen} dev eth0
link set eth0 up
route add default via {router}
"""
    run("ip", "-n", name, "-batch", "-", text=links)


class Port:
    """Network interface of one VM in the VPC."""

    def __init__(self, name: str, address: str, public: str | None, device: str) -> None:
        self.name, self.address, self.public, self.device = name, address, public, device
        self._rules = ""
        run("ip", "netns", "add", name)
        links = f"link add {device} type veth peer name eth0 netns {name}\n"
        run("ip", "-batch", "-", text=f"{links}link set {device} master vpc up\n")
        configure_host(address, str(VPC), ROUTER, name)
        if public:
            run("nft", "-f", "-", text=self._addresses("add"))

    def close(self) -> None:
        """Remove the interface; the VM's process has exited."""
        run("ip", "link", "del", self.device)
        run("ip", "netns", "del", self.name)
        if self.public:
            run("nft", "-f", "-", text=self._addresses("delete"))

    def disconnect(self, is_cut: bool) -> None:
        """Disconnect or connect the interface."""
        run("ip", "link", "set", self.device, "down" if is_cut else "up")

    def drop_packets(self, percent: int) -> None:
        """Drop that share of the incoming packets."""
        self._nft("table inet loss {}\ndelete table inet loss\n")
        if percent:
            hook = "type filter hook input priority -10;"
            rule = f"numgen random mod 100 <= {percent - 1} drop"
            self._nft(f"table inet loss {{\n  chain in {{\n    {hook}\n    {rule}\n  }}\n}}\n")

    def set_firewall(self, rules: str) -> None:
        """Allow exactly what these security group rules allow."""
        if rules != self._rules:
            self._nft(f"table inet groups {{}}\ndelete table inet groups\n{rules}")
            self._rules = rules

    def _nft(self, text: str) -> None:
        run("nsenter", f"--net=/run/netns/{self.name}", "nft", "-f", "-", text=text)

    def _addresses(self, verb: str) -> str:
        to_private, to_public = f"{self.public} : {self.address}", f"{self.address} : {self.public}"
        elements = {"public": to_private, "private": to_public}
        return "".join(f"{verb} element ip router {m} {{ {e} }}\n" for m, e in elements.items())


def firewall_rules(vm: Any, alive: Iterable[Any]) -> str:
    """Return nft rules for the security groups of moto's `vm`."""
    members: dict[str, list[str]] = {}
    for other in alive:
        for group in other.security_groups:
            members.setdefault(group.id, []).append(other.private_ip)
    lines = ["ct state established,related accept", 'iifname "lo" accept']
    for group in vm.security_groups:
        for rule in group.ingress_rules:
            sources = members.get(rule.source_group.get("GroupId", ""), [])
            if network := rule.ip_range.get("CidrIp"):
                sources = [network]
            if not sources:
                continue
            protocol = "" if rule.ip_protocol == "-1" else f"meta l4proto {rule.ip_protocol} "
            if rule.ip_protocol in ("tcp", "udp") and rule.from_port not in (None, -1):
                protocol = f"{rule.ip_protocol} dport {rule.from_port}-{rule.to_port} "
            lines.append(f"ip saddr {{ {', '.join(sorted(set(sources)))} }} {protocol}accept")
    chain = "\n    ".join(["type filter hook input priority 0; policy drop;", *lines])
    return f"table inet groups {{\n  chain in {{\n    {chain}\n  }}\n}}\n"
