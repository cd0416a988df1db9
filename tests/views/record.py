# SPDX-License-Identifier: Apache-2.0
"""Records what each project's own preprocessing gives a network, into views.npz; no part of inception_tf runs here.

    python tests/views/record.py SKLEARN/datasets/images

Run it once where torchvision, timm and torch-fidelity are installed and once where TensorFlow and OpenCV are: it adds
what it can make.  Recorded with torchvision 0.29.1, timm 1.0.31, torch-fidelity 0.4.0, Pillow 13.0, TensorFlow 2.20.0,
OpenCV 5.0.0.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
from photographs import photographs, sampled

FILE = Path(__file__).with_name("views.npz")


def by_torchvision(image: np.ndarray) -> dict[str, np.ndarray]:
    """What enters the first convolution: the weights' transforms, then the network's own rescaling."""
    import torch
    from PIL import Image
    from torchvision import models

    def view(weights, build):
        network = build(weights=None, transform_input=True, init_weights=False, aux_logits=True)
        with torch.no_grad():
            return network._transform_input(weights.transforms()(Image.fromarray(image))[None])

    return {
        "inception_v1/torchvision": view(models.GoogLeNet_Weights.IMAGENET1K_V1, models.googlenet),
        "inception_v3/torchvision": view(
            models.Inception_V3_Weights.IMAGENET1K_V1, models.inception_v3
        ),
    }


def by_timm(image: np.ndarray) -> dict[str, np.ndarray]:
    import timm
    from PIL import Image

    found = {}
    for name in (
        "inception_v3.tf_in1k",
        "inception_v3.tf_adv_in1k",
        "inception_v3.gluon_in1k",
        "inception_v4.tf_in1k",
        "inception_resnet_v2.tf_in1k",
        "inception_resnet_v2.tf_ens_adv_in1k",
    ):
        config = timm.data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
        transform = timm.data.create_transform(**config)
        network, tag = name.split(".")
        key = f"{network}/timm_{tag.removesuffix('_in1k')}"
        found[key] = transform(Image.fromarray(image))[None]
    return found


def by_torch_fidelity(image: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).float()
    x = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    return {"inception_v3/fid_2015": (x - 128) / 128}


def by_slim(image: np.ndarray) -> dict[str, np.ndarray]:
    """TF1 graphs of research/slim/preprocessing: inception_preprocessing and vgg_preprocessing, for evaluation."""
    import tensorflow as tf

    tf1 = tf.compat.v1

    def inception(size):
        x = tf.image.convert_image_dtype(image, tf.float32)
        x = tf.image.central_crop(x, central_fraction=0.875)
        x = tf1.image.resize_bilinear(tf.expand_dims(x, 0), [size, size], align_corners=False)
        return tf.multiply(tf.subtract(x, 0.5), 2.0)

    def vgg():
        height, width = (tf.cast(side, tf.float32) for side in image.shape[:2])
        scale = tf.cond(height > width, lambda: 256.0 / width, lambda: 256.0 / height)
        sides = [tf.cast(tf.math.rint(side * scale), tf.int32) for side in (height, width)]
        x = tf1.image.resize_bilinear(image[None], sides, align_corners=False)
        top, left = (tf.cast((side - 224) / 2, tf.int32) for side in sides)
        x = tf.slice(tf.cast(x, tf.float32), [0, top, left, 0], [1, 224, 224, 3])
        return x - [123.68, 116.78, 103.94]

    with tf.Graph().as_default(), tf1.Session() as session:
        views = {224: inception(224), 299: inception(299), "vgg": vgg()}
        views = session.run(views)
    found = {f"{name}/slim_2016": views[224] for name in ("inception_v1", "inception_v2")}
    for name in ("inception_v3", "inception_v4", "inception_resnet_v2"):
        found[f"{name}/slim_2016"] = views[299]
    # keras.io names no resize rule; the weights are slim's and so is the view.
    for name in ("inception_v3", "inception_resnet_v2"):
        found[f"{name}/keras"] = views[299]
    return found | {"vgg16/slim_2016": views["vgg"]}


def by_caffe(image: np.ndarray) -> dict[str, np.ndarray]:
    """tools/convert_imageset --resize_height=256 --resize_width=256, then the center crop of the data layer."""
    import cv2

    stored = cv2.resize(image[..., ::-1], (256, 256))[16:240, 16:240]
    return {"googlenet/bvlc": stored[None].astype(np.float32) - [104.0, 117.0, 123.0]}


PROJECTS = {
    "torchvision": by_torchvision,
    "timm": by_timm,
    "torch_fidelity": by_torch_fidelity,
    "tensorflow": by_slim,
    "cv2": by_caffe,
}


def main(folder: str) -> None:
    """Adds the views of every project that is installed."""
    recorded = dict(np.load(FILE)) if FILE.exists() else {}
    for name, image in photographs(Path(folder)).items():
        for project, views in PROJECTS.items():
            if importlib.util.find_spec(project):
                for release, view in views(image).items():
                    view = np.asarray(view)[0]
                    view = view.transpose(1, 2, 0) if view.shape[0] == 3 else view
                    recorded[f"{release}/{name}"] = sampled(view).astype(np.float16)
    np.savez_compressed(FILE, **dict(sorted(recorded.items())))
    print(f"{len(recorded)} views in {FILE}")


if __name__ == "__main__":
    main(*sys.argv[1:])
