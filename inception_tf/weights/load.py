# SPDX-License-Identifier: Apache-2.0
"""`load_weights`: from any known file into a model, by name, checked, all or nothing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inception_tf.arch.spec import Network
from inception_tf.errors import unknown
from inception_tf.models import variant
from inception_tf.nn.network import check_not_wrapped
from inception_tf.weights.detect import check_weights_path, detect_source
from inception_tf.weights.formats.stored import NOTHING
from inception_tf.weights.gamma import FOLDED
from inception_tf.weights.hub import local_file
from inception_tf.weights.identify import network_of_layers
from inception_tf.weights.limits import model_limit
from inception_tf.weights.metadata import layer_arguments, stored_metadata
from inception_tf.weights.recognize import has_layers_of
from inception_tf.weights.release_of_file import without_scale
from inception_tf.weights.sources import NATIVE, SOURCES, check_ema, check_network
from inception_tf.weights.transfer import MisfitError, Report, assign

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["Report", "load_weights"]


def load_weights(
    model: keras.Model,
    path: str | os.PathLike[str],
    source: str = "auto",
    strict: bool = True,
    *,
    skip_head: bool = False,
    drop_background: bool = False,
    adapt_head: bool = False,
    ema: bool = False,
) -> Report:
    """Load a weights file into a model by layer name.

    If the model has another number of input channels than the file, the first kernel is adapted, and
    the report says so: summed for one channel, otherwise repeated and rescaled.

    Args:
        model: A model of `create_model`.
        path: A `.weights.h5`, `.keras` or `.h5` file of this project, a checkpoint of slim
            (`inception_v3.ckpt`), an `.h5` file of `keras.applications` or its models saved by Keras 3
            (`.weights.h5`, `.keras`), a `.safetensors` or `.pth` state dict of torchvision or timm,
            BVLC's GoogLeNet as `.npz` or `.caffemodel`, or the frozen graph of 2015 (`.pb`);
            or the address of such a file on the Hugging Face Hub, `hf://OWNER/REPOSITORY/FILE@REVISION`.
        source: str. "native" (this project), "slim", "keras", "torchvision", "timm", "bvlc", "graph" (a frozen graph), or "auto"
            to detect it from the file's name and format.
        strict: bool. Refuse a file that lacks a variable of the model or has more than the model; False
            loads what fits.  A classifier that only the file has is allowed, and reported as unused.
        skip_head: bool. Leave the model's classifiers unchanged, for fine-tuning on other classes.
        drop_background: bool. Skip the first class of a file that has one class more than the model,
            such as slim's with 1,001.
        adapt_head: bool. Leave the model's classifier unchanged where the file's does not fit, and say so in the report;
            of a file with ImageNet's 1,001 classes a model with 1,000 takes all but the background.
        ema: bool. Load the moving averages of a checkpoint of slim or torch instead of its weights.

    Returns:
        A report of the arrays that were read, used and unused, and the variables that were missing or
        of another shape.

    Raises:
        UserError: The file is missing, damaged, not a weights file, or of another network, none of its
            arrays fits, or the network is inside of `model`; the model is unchanged.

    Example:
        >>> model = inception_tf.create_model("inception_v3")
        >>> model.save_weights("inception_v3.weights.h5")
        >>> print(inception_tf.load_weights(model, "inception_v3.weights.h5"))
        378 arrays read, 378 used.
    """
    path = local_file(path)
    if source != "auto" and source not in SOURCES:
        raise unknown("source", source, ["auto", *SOURCES])
    check_weights_path(path)
    limit = model_limit(model)
    source = detect_source(path, SOURCES, limit) if source == "auto" else source
    check_ema(ema, source)
    check_not_wrapped(model, "its layers have the file's names")
    chosen = SOURCES[source]
    network = chosen.identify(model)
    file = chosen.read(path, ema, NOTHING, limit)
    if source == NATIVE:
        note = _native_note(model, path)
    else:
        note = _variant_note(model, source, network, file.arrays)
    try:
        report = assign(
            model,
            file.arrays,
            chosen.map_names(network, file.arrays, ema),
            strict=strict,
            skip_head=skip_head,
            drop_background=drop_background,
            adapt_head=adapt_head,
            notes=(*file.notes, *note),
            training_state=file.training_state,
            read=lambda wanted: chosen.read(path, ema, wanted, limit).arrays,
        )
    except MisfitError as error:
        check_network(error, model, source, path, file.arrays)
        raise
    for sentence in report.notes:
        if FOLDED in sentence:
            warnings.warn(f"{path}: {sentence}", stacklevel=2)
    return report


def _native_note(model: keras.Model, path: str) -> tuple[str, ...]:
    """A note for the report if a model is another variant than this project's file says, whose arrays fit all the same."""
    stored = stored_metadata(path)  # gammas have a note of their own
    if stored.network is None:
        return ()
    switches = without_scale(layer_arguments(stored.switches)[1])
    of_network = network_of_layers({layer.name for layer in model.layers}, [stored.network])
    if of_network is None or has_layers_of(model, variant(stored.network, **switches)):
        return ()
    return (
        f"the pools or the padding of the file's network differ from this model's; create it with {_words(switches)}",
    )


def _variant_note(
    model: keras.Model, source: str, network: Network, arrays: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """A note for the report if a model is another variant than the file's network, whose arrays fit all the same."""
    chosen = SOURCES[source]
    fitting = [dict(one) for one in chosen.variants(network.name, arrays)]
    if len(fitting) > 1 and chosen.same_arrays:
        return (f"nothing in the file says whether it needs {' or '.join(map(_words, fitting))}",)
    if len(fitting) > 1:  # the one whose names the file has
        tables = [variant(network.name, **one) for one in fitting]
        counts = [
            len(chosen.map_names(one, arrays, False).values() & arrays.keys()) for one in tables
        ]
        fitting = [fitting[counts.index(max(counts))]]
    if has_layers_of(model, variant(network.name, **fitting[0])):
        return ()
    is_padding = any(key.endswith("padding") for key in fitting[0])
    what = "torch's padding differs" if is_padding else "the pools of the file's network differ"
    return (f"{what} from this model's; create it with {_words(fitting[0])}",)


def _words(switches: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in switches.items()) or "no switches"
