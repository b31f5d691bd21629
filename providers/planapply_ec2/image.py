"""Default image of VMs: the current one of its publisher, chosen once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planapply.provider import ErrorKind, ProviderError
from planapply.providerkit import NodeConfig, rejection
from planapply_ec2 import sizes
from planapply_ec2.client import Client

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef

DEBIAN = "136693071363"
"""AWS account of Debian, from its wiki, Cloud/AmazonEC2Image."""


@dataclass(frozen=True)
class Publisher:
    """Source of the current ID of an image."""

    parameter: str
    """Public parameter in SSM."""
    owner: str
    name: str
    """Pattern, with `*` for the parts that change."""


def _publisher_of(arch: str, gpus: bool) -> Publisher:
    if arch not in ("x86_64", "arm64"):
        raise rejection(
            f"there is no default image for architecture {arch}",
            "Set `image`, or choose another `size`.",
        )
    if gpus:
        # It has drivers, Docker, and NVIDIA's toolkit, which Debian cannot ship. From AWS's "Deep
        # Learning AMIs" guide.
        kind = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)"
        return Publisher(
            f"/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-22.04"
            "/latest/ami-id",
            "amazon",
            f"{kind} *",
        )
    debian = {"x86_64": "amd64", "arm64": "arm64"}[arch]
    return Publisher(
        f"/aws/service/debian/release/12/latest/{debian}",
        DEBIAN,
        f"debian-12-{debian}-*",
    )


@dataclass(frozen=True)
class Image:
    """Facts about an image."""

    id: str
    arch: str
    root: str
    """Name of the root device."""
    disk: int
    """Smallest size of the root device, in bytes."""
    owner: str
    name: str


def pins(client: Client, config: NodeConfig) -> dict[str, Any]:
    """Return the image for a config without one."""
    arch, gpus = _kind_of(client, config)
    return {
        "image": client.cache.get(f"image {arch} {gpus}", lambda: _find_current(client, arch, gpus))
    }


def check_pins(
    client: Client, config: NodeConfig, values: Mapping[str, Any]
) -> Iterator[ProviderError]:
    """Yield why these values cannot be the default image of some day for a config."""
    if values.keys() != {"image"}:
        yield rejection("only the image has a default that planapply keeps")
        return
    arch, gpus = _kind_of(client, config)
    publisher = _publisher_of(arch, gpus)
    if not _find_images(client, publisher, arch, id=str(values["image"])):
        yield rejection(
            f"image {values['image']} is not one of the publisher's images {publisher.name!r}"
        )


def _kind_of(client: Client, config: NodeConfig) -> tuple[str, bool]:
    """Return the architecture of a config's sizes, and whether they have GPUs."""
    names = config.size or sizes.DEFAULT_SIZES[:1]
    arch = sizes.find_arch(client, names)
    return arch, any(size.gpus for size in sizes.describe(client, names).values())


def _find_current(client: Client, arch: str, gpus: bool) -> str:
    publisher = _publisher_of(arch, gpus)
    try:
        with client.translate_errors():
            return str(client.ssm.get_parameter(Name=publisher.parameter)["Parameter"]["Value"])
    except ProviderError as error:
        # An account may forbid SSM, and not every region has these parameters.
        if error.kind not in (ErrorKind.UNAUTHORIZED, ErrorKind.REJECTED):
            raise
    images = _find_images(client, publisher, arch)
    if not images:
        raise rejection(
            f"there is no image {publisher.name!r} in {client.region}",
            "Set `image` under [defaults].",
        )
    return max(images, key=lambda image: image["CreationDate"])["ImageId"]


def _find_images(
    client: Client, publisher: Publisher, arch: str, *, id: str = ""
) -> "list[ImageTypeDef]":
    """Return the publisher's images, or only the one with this ID."""
    filters: list[FilterTypeDef] = [
        {"Name": "name", "Values": [publisher.name]},
        {"Name": "architecture", "Values": [arch]},
        {"Name": "state", "Values": ["available"]},
    ]
    if id:
        filters.append({"Name": "image-id", "Values": [id]})
    with client.translate_errors():
        return client.ec2.describe_images(Owners=[publisher.owner], Filters=filters)["Images"]


def describe(client: Client, id: str) -> Image:
    """Return facts about an image; raise a rejected ProviderError if it does not exist."""
    return client.cache.get(f"image {id}", lambda: _describe(client, id))


def _describe(client: Client, id: str) -> Image:
    with client.translate_errors():
        images = client.ec2.describe_images(Filters=[{"Name": "image-id", "Values": [id]}])[
            "Images"
        ]
    if not images or images[0].get("State", "available") != "available":
        raise rejection(
            f"there is no image {id} in {client.region} that this account may use",
            "Choose another `image`: its ID differs between regions, and old images are deleted.",
        )
    return _parse_image(images[0])


def _parse_image(image: "ImageTypeDef") -> Image:
    root = image.get("RootDeviceName", "/dev/xvda")
    volumes = {m.get("DeviceName"): m.get("Ebs", {}) for m in image.get("BlockDeviceMappings", [])}
    return Image(
        id=image["ImageId"],
        arch=image["Architecture"],
        root=root,
        disk=volumes.get(root, {}).get("VolumeSize", 0) << 30,
        owner=image.get("OwnerId", ""),
        name=image.get("Name", ""),
    )
