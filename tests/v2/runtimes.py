# SPDX-License-Identifier: Apache-2.0
"""Runtimes for MLServer: an ONNX model of pixels, and a model of encoded images that knows them by their length."""

from __future__ import annotations

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    async def load(self) -> bool:
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        (found,) = self.session.run(["probabilities"], {"images": images})
        output = NumpyCodec.encode_output("probabilities", found)
        return InferenceResponse(model_name=self.name, outputs=[output])


class Lengths(MLModel):
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = self.decode(payload.inputs[0])
        lengths = [str(len(image)) for image in images]
        scores = np.tile(np.array([[0.75, 0.25]], np.float32), (len(images), 1))
        labels = np.array([[length, "other"] for length in lengths])
        classes = StringCodec.encode_output("top_classes", labels.ravel().tolist())
        classes.shape = list(labels.shape)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("status", ["ok" if int(n) else "empty" for n in lengths]),
                classes,
                NumpyCodec.encode_output("top_scores", scores),
                NumpyCodec.encode_output("probabilities", scores),
            ],
        )
