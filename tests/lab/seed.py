"""Initial contents of an AWS account: public images, their names in SSM, and spot prices."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ssm.models import Parameter, ssm_backends

ACCOUNT = "123456789012"
"""moto's own account."""
DEBIAN = "136693071363"
"""Account that publishes Debian's images."""
_AMAZON = "898082745236"
_MADE = datetime(2025, 5, 19, tzinfo=UTC)

# SSM names as Debian and AWS document them -> (owner, image name, architecture).
_IMAGES = {
    f"/aws/service/debian/release/{release}/latest/{arch}": (
        DEBIAN,
        f"debian-{release}-{arch}-20250519-2116",
        "x86_64" if arch == "amd64" else "arm64",
    )
    for release in (12, 13)
    for arch in ("amd64", "arm64")
} | {
    f"/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id": (
        _AMAZON,
        f"Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) {arch} 20250519",
        arch,
    )
    for arch in ("x86_64", "arm64")
}
OWN_IMAGE = "/lab/image-with-dask"
"""SSM name of the account's own image, which has Dask; with machines, every image has it."""
_IMAGES[OWN_IMAGE] = (ACCOUNT, "lab-with-dask", "x86_64")


def create_images(region: str) -> None:
    """Add the images and their SSM names to moto's `region`, once."""
    ec2 = ec2_backends[ACCOUNT][region]
    parameter: Callable[..., Any] = Parameter
    ssm = ssm_backends[ACCOUNT][region]
    for path, (owner, name, arch) in _IMAGES.items():
        ami = f"ami-{hashlib.sha256(f'{region}{name}'.encode()).hexdigest()[:17]}"
        if ami in ec2.amis:
            return
        ec2.amis[ami] = Ami(
            ec2,
            ami,
            name=name,
            description=name,
            owner_id=owner,
            public=owner != ACCOUNT,
            virtualization_type="hvm",
            architecture=arch,
            creation_date=_MADE,
            image_location=f"{owner}/{name}",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name="/dev/xvda",
            region_name=f"{region}a",
        )
        ssm._parameters[path] = [
            parameter(
                account_id=ACCOUNT,
                name=path,
                value=ami,
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=_MADE,
                version=1,
                data_type="aws:ec2:image",
            )
        ]


def spot_price(size: str, zone: str) -> float:
    """Return a plausible price in USD per hour: by vCPU, memory, and GPU, different in each zone."""
    info = INSTANCE_TYPES[size]
    price = (
        0.011 * info["VCpuInfo"]["DefaultVCpus"] + 0.0011 * info["MemoryInfo"]["SizeInMiB"] / 1024
    )
    price += 0.2 * sum(gpu["Count"] for gpu in info.get("GpuInfo", {}).get("Gpus", []))
    return float(price * (1 + hashlib.sha256(f"{size}{zone}".encode()).digest()[0] / 2560))


def timestamp() -> str:
    """Return the price in EC2's format."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
