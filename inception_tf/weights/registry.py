# SPDX-License-Identifier: Apache-2.0
"""Published weights, one row each: address, checksum, license, preprocessing and accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inception_tf.data.preprocessing import Preprocessing
from inception_tf.errors import UserError, did_you_mean, unknown
from inception_tf.host.files import cache_folder
from inception_tf.models import SCALE

__all__ = [
    "FID_CLASSES",
    "RELEASES",
    "Release",
    "cached_file",
    "check_release_name",
    "find_release",
    "release_folder",
    "release_names",
    "releases_of",
]

FID = "fid_2015"
FID_CLASSES = 1008  # of Google's graph of 2015-12-05
IMAGENET = "imagenet"  # another name of a network's first release in the table


@dataclass(frozen=True)
class Release:
    """Published weights of one network."""

    name: str
    network: str
    source: str  # a source of `load_weights`: the format
    address: str
    member: str  # the file inside an archive; empty if the address is the file itself
    # "md5:...", "sha1:...", "sha256:..." or its beginning, with spaces between several; empty if none is published:
    # the first download is then trusted, and later ones must be equal.
    checksum: str
    license: str
    classes: int  # 1001 counts a background class first
    preprocessing: Preprocessing
    # top-1 and top-5 in percent, one crop, as published; None: not published
    accuracy: tuple[float, float] | None
    switches: Mapping[str, Any] = field(default_factory=dict)  # the variant of the network
    other_files: tuple[str, ...] = ()  # names of the same weights in other places

    @property
    def sources(self) -> tuple[str, ...]:
        """The formats that the weights are published in, as sources of `load_weights`."""
        has_graph = any(name.endswith(".pb") for name in self.names)
        return (self.source, "graph") if has_graph else (self.source,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files that have these weights."""
        return tuple(name for name in (self.file, self.member, *self.other_files) if name)

    @property
    def checksums(self) -> dict[str, str]:
        """The published checksums: kind → digest, or its beginning."""
        return {
            kind: digest
            for kind, _, digest in (one.partition(":") for one in self.checksum.split())
        }

    @property
    def size(self) -> int | None:
        """The size of the file in bytes; None if it is not published."""
        return SIZES.get(self.file)

    @property
    def file(self) -> str:
        """The name of the file to fetch."""
        return self.address.rsplit("/", 1)[1]


SLIM = "https://storage.googleapis.com/download.tensorflow.org/models/"
KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
TORCH = "https://download.pytorch.org/models/"
TIMM = "https://huggingface.co/timm/"
# OpenVINO's copy: the model zoo's own server, dl.caffe.berkeleyvision.org, has no HTTPS.
BVLC = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/googlenet-v1/"
# slim publishes no checksums; these are those of OpenVINO's Open Model Zoo, models/public/googlenet-v*-tf/model.yml.
SLIM_SUMS = {
    "inception_v1_2016_08_28.tar.gz": "sha256:7a620c430fcaba8f8f716241f5148c4c47c035cce4e49ef02cfbe6cd1adf96a6",
    "inception_v2_2016_08_28.tar.gz": "sha384:c0b2efbae8fc5e237ae67637dca3f311d4b4f7da576b56067e83d95c398a2fcc"
    "d50baff9cc0de64335f4d7b78e1adb07",
}
# Bytes, by the same files, Keras' progress bar and torchvision's `_file_size` (MiB, three digits).
SIZES = {
    "inception_v1_2016_08_28.tar.gz": 24_642_554,
    "inception_v2_2016_08_28.tar.gz": 41_577_079,
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5": 96_112_376,
    "googlenet-1378be20.pth": 52_147_000,
    "inception_v3_google-0cc3c7bd.pth": 108_950_000,
    "bvlc_googlenet.caffemodel": 53_533_754,
}
APACHE, BSD = "Apache-2.0", "BSD-3-Clause"


def _slim(network: str, date: str, size: int, accuracy: tuple[float, float]) -> Release:
    archive = f"{network}_{date}.tar.gz"
    member = f"{network}.ckpt" if network != "inception_resnet_v2" else f"{network}_{date}.ckpt"
    preprocessing = Preprocessing(size, half_pixel_centers=False)
    return Release(
        "slim_2016",
        network,
        "slim",
        SLIM + archive,
        member,
        SLIM_SUMS.get(archive, ""),
        APACHE,
        1001,
        preprocessing,
        accuracy,
    )


def _timm(
    network: str,
    tag: str,
    crop: float,
    accuracy: tuple[float, float],
    scale: str = "unit",
    **switches: bool,
) -> Release:
    shorter = math.floor(299 / crop)
    preprocessing = Preprocessing(299, None, scale, "bicubic", shorter=shorter, antialias=True)
    address = f"{TIMM}{network}.{tag}/resolve/main/model.safetensors"
    name = f"timm_{tag.removesuffix('_in1k')}"
    return Release(
        name,
        network,
        "timm",
        address,
        "",
        "",
        APACHE,
        1000,
        preprocessing,
        accuracy,
        {**switches, SCALE: True},
    )


# Addresses, checksums and accuracies as the projects publish them: slim's README, keras.io's table,
# torchvision's weights (the eight digits in the file names begin the SHA-256), timm's results file,
# BVLC's models/bvlc_googlenet/readme.md.  Each preprocessing is the one that the accuracy was published with: slim's
# and torchvision's evaluation, timm's `crop_pct` (the shorter side is rounded down), Caffe's `convert_imageset`.
# keras.io names no resize rule; its weights are slim's, and so is the preprocessing here.
RELEASES: tuple[Release, ...] = (
    _slim("inception_v1", "2016_08_28", 224, (69.8, 89.6)),
    _slim("inception_v2", "2016_08_28", 224, (73.9, 91.8)),
    _slim("inception_v3", "2016_08_28", 299, (78.0, 93.9)),
    _slim("inception_v4", "2016_09_09", 299, (80.2, 95.2)),
    _slim("inception_resnet_v2", "2016_08_30", 299, (80.4, 95.3)),
    Release(
        "slim_2016",
        "vgg16",
        "slim",
        SLIM + "vgg_16_2016_08_28.tar.gz",
        "vgg_16.ckpt",
        "",
        "CC-BY-4.0",  # that of its authors' Caffe model, which slim converted
        1000,
        Preprocessing(224, None, "vgg", shorter=256, half_pixel_centers=False),
        (71.5, 89.8),
    ),
    Release(
        "keras",
        "inception_v3",
        "keras",
        KERAS + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
        "",
        "md5:9a0d58056eeedaa3f26cb7ebd46da564",
        APACHE,
        1000,
        Preprocessing(299, half_pixel_centers=False),
        (77.9, 93.7),
    ),
    Release(
        "keras",
        "inception_resnet_v2",
        "keras",
        KERAS + "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
        "",
        "md5:e693bd0210a403b3192acc6073ad2e96",
        APACHE,
        1000,
        Preprocessing(299, half_pixel_centers=False),
        (80.3, 95.3),
    ),
    Release(
        "torchvision",
        "inception_v1",
        "torchvision",
        TORCH + "googlenet-1378be20.pth",
        "",
        "sha256:1378be20",
        BSD,
        1000,
        # It rescales ImageNet-normalized input to -1..1 itself.
        Preprocessing(224, None, shorter=256, antialias=True),
        (69.778, 89.530),
        {"torch_padding": True, SCALE: True},
    ),
    Release(
        "torchvision",
        "inception_v3",
        "torchvision",
        TORCH + "inception_v3_google-0cc3c7bd.pth",
        "",
        "sha256:0cc3c7bd",
        BSD,
        1000,
        Preprocessing(299, None, shorter=342, antialias=True),  # likewise
        (77.294, 93.450),
        {"count_padding": True, SCALE: True},
    ),
    _timm("inception_v3", "tf_in1k", 0.875, (77.866, 93.644), count_padding=True),
    _timm("inception_v3", "tf_adv_in1k", 0.875, (77.598, 93.726), count_padding=True),
    _timm("inception_v3", "gluon_in1k", 0.875, (78.806, 94.372), "torch", count_padding=True),
    _timm("inception_v4", "tf_in1k", 0.875, (80.144, 94.982)),
    _timm("inception_resnet_v2", "tf_in1k", 0.8975, (80.434, 95.312)),
    _timm("inception_resnet_v2", "tf_ens_adv_in1k", 0.8975, (79.998, 94.940)),
    # Google's graph of 2015-12-05, whose features FID and its relatives are computed from, as pytorch-fid publishes it.
    # Its 1,008 classes are in the order of its own label map, not in ImageNet's.
    Release(
        FID,
        "inception_v3",
        "torchvision",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "",
        "sha256:6726825d",
        APACHE,
        FID_CLASSES,
        Preprocessing(299, None, "fid", half_pixel_centers=False),
        None,
        {"last_pool": "max"},
        (
            "weights-inception-2015-12-05-6726825d.pth",  # torch-fidelity's copy
            "classify_image_graph_def.pb",  # the original
        ),
    ),
    Release(
        "bvlc",
        "googlenet",
        "bvlc",
        BVLC + "bvlc_googlenet.caffemodel",  # 53,533,754 bytes, the auxiliary classifiers included
        "",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204"
        " sha256:6f7101e3a2183738a7125a0c5021ba82a1feb4228c5ca0924d991b6daf6f6fad",
        "unrestricted",
        1000,
        Preprocessing(224, None, "caffe", stored=256),
        (68.7, 88.9),
    ),
)


def release_folder(release: Release) -> Path:
    """Where a release is kept.

    Args:
        release: The release.

    Returns:
        A folder in the cache, which may not exist: with the file as published, a record of its download, and
        the converted weights.
    """
    return cache_folder() / f"{release.network}-{release.name}"


def cached_file(release: Release) -> tuple[Path, bool]:
    """The file of a release, as published, in the cache.

    Args:
        release: The release.

    Returns:
        Its path, and whether the file or what was converted from it is there.
    """
    folder = release_folder(release)
    converted = folder / f"{release.network}.weights.h5"
    path = folder / release.file
    return path, path.exists() or converted.exists()


def release_names(network: str) -> list[str]:
    """The names of a network's releases.

    Args:
        network: str. One of `list_models()`.

    Returns:
        Names, `imagenet` first; empty if none are published.
    """
    names = [release.name for release in RELEASES if release.network == network]
    return [IMAGENET, *names] if names else []


def releases_of(network: str, source: str) -> list[Release]:
    """The releases of a network by one project.

    Args:
        network: str. One of `list_models()`.
        source: str. A source of `load_weights`.

    Returns:
        Releases, the default one first.
    """
    return [r for r in RELEASES if r.network == network and source in r.sources]


def find_release(network: str, name: str) -> Release:
    """A release by name.

    Args:
        network: str. One of `list_models()`.
        name: str. One of `release_names(network)`.

    Returns:
        The release; for `imagenet` the network's first.

    Raises:
        UserError: The name is unknown; the message has the nearest one.
    """
    for release in RELEASES:
        if release.network == network and name in (IMAGENET, release.name):
            return release
    raise unknown(f"weights of {network}", name, release_names(network) or ["none are published"])


def check_release_name(network: str, weights: object) -> None:
    """Check that `weights` is a release's name or may be a file's path.

    Args:
        network: str. One of `list_models()`.
        weights: The `weights` argument of a builder; only strings are checked.

    Raises:
        UserError: It is neither.
    """
    if not isinstance(weights, str) or weights in release_names(network):
        return
    if os.path.splitext(weights)[1] or os.path.basename(weights) != weights:
        return
    if os.path.exists(weights) or os.path.exists(f"{weights}.index"):
        return
    known = release_names(network)
    released = f"known: {', '.join(known)}" if known else "none are published"
    raise UserError(
        f"unknown weights of {network} '{weights}'; {released}, or the path of a weights file"
        f"{did_you_mean(weights, known)}"
    )
