# SPDX-License-Identifier: Apache-2.0
"""Files beside the version folders for the people who serve them: TensorFlow Serving's `model.config` and a README."""

from __future__ import annotations

from pathlib import Path

from inception_tf.data.decoding import work
from inception_tf.export.metadata import ExportMetadata
from inception_tf.export.signatures import BYTES_PER_PIXEL, PARALLEL_IMAGES

__all__ = ["MODEL_CONFIG_FILE", "README_FILE", "write_model_readme"]

MODEL_CONFIG_FILE, README_FILE = "model.config", "README.md"
IMAGE = (
    "tensorflow/serving:2.20.0"  # on Docker Hub; it has the TensorFlow that exports are made with
)

_CONFIG = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""

_README = """\
# {name}

An image classifier, `{network}` with {classes} classes.  Each numbered folder is one version; TensorFlow Serving
takes the highest.  In it, `assets/labels.txt` lists the classes in order, and `assets.extra/export.json` records how
it was made.

## Serve

In this folder:

```sh
docker run --rm -p 8500:8500 -p 8501:8501 \\
  --mount type=bind,source="$PWD",target=/models/{name},readonly \\
  -e MODEL_NAME={name} {image}
```

To choose versions or to serve several models, edit `{config}` and end the line with
`--model_config_file=/models/{name}/{config}` in place of `MODEL_NAME`.

## Predict over REST

```sh
(printf '{{"instances": [{{"b64": "'; base64 -w0 photo.jpg; printf '"}}]}}') |
  curl -s -d @- http://localhost:8501/v1/models/{name}:predict
```

Each of `predictions` has `probabilities`, `top_classes`, `top_scores` and `status`: `ok`, or why this image was
rejected; the other images of the request are classified all the same.{several}

JPEG, PNG, still WebP, BMP and GIF (its first frame) are read.  Of one image:

| | at most |
| --- | --- |
| pixels | {pixels:,} |
| memory | {bytes} bytes for each pixel |
| time of one core, of 2 GHz | {seconds} s for each megapixel, and for one of less |
| Huffman tables of a lossless WebP, on top of both | {webp_memory} GiB and {webp_seconds} s; of less than a megapixel, that part of it |

Files that ask for more are rejected.  {images} images of a request are read at the same time.

## Predict over gRPC

```python
# pip install grpcio tensorflow-serving-api
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = "{name}"
with open("photo.jpg", "rb") as file:
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([file.read()]))

with grpc.insecure_channel("localhost:8500") as channel:
    service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    outputs = service.Predict(request, timeout=30).outputs

print(outputs["status"].string_val[0].decode())
for label, score in zip(outputs["top_classes"].string_val, outputs["top_scores"].float_val):
    print(f"{{score:.4f}} {{label.decode()}}")
```

The server has no authentication and, over REST, no encryption: put a proxy in front of it that has both, and that
limits the size of a request.
"""

# Of a network whose classes are independent.
_SEVERAL = """
An image shows any number of classes: each probability is independent of the others, and a class is usually predicted
where its probability is at least 0.5."""


def write_model_readme(folder: Path, name: str, classes: int, metadata: ExportMetadata) -> None:
    """Writes `model.config` and `README.md` beside the version folders.

    Args:
        folder: The folder to write to.
        name: The name under which the model is served.
        classes: Number of classes.
        metadata: How the newest version was made.
    """
    (folder / MODEL_CONFIG_FILE).write_text(_CONFIG.format(name=name), encoding="utf-8")
    text = _README.format(
        name=name,
        network=metadata.network,
        classes=classes,
        image=IMAGE,
        config=MODEL_CONFIG_FILE,
        pixels=metadata.pixel_limit,
        bytes=BYTES_PER_PIXEL,
        seconds=work.SECONDS_PER_MEGAPIXEL,
        webp_memory=work.WEBP_TABLES >> 30,
        webp_seconds=work.WEBP_SECONDS,
        images=PARALLEL_IMAGES,
        several=_SEVERAL if metadata.multi_label else "",
    )
    (folder / README_FILE).write_text(text, encoding="utf-8")
