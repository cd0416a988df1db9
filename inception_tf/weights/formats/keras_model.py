# SPDX-License-Identifier: Apache-2.0
"""Whole models that Keras saved, `.keras` and `.h5`: built from Keras' own layers, and from nothing else in the file.

A configuration is read as data: every class and function that it names has to be one of Keras' own that runs no code
of the file and reads no other file.  The weights are checked as all HDF5 files are before Keras reads them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from inception_tf.errors import UserError
from inception_tf.host.files import check_content
from inception_tf.weights.formats import hdf5
from inception_tf.weights.formats.archive import check_member, member_chunks, open_archive
from inception_tf.weights.formats.stored import damage_is, shown_name

__all__ = ["is_whole_model", "load_keras_model"]

CONFIG_IN_KERAS_FILE, CONFIG_IN_HDF5 = "config.json", "model_config"
CONFIG_LIMIT = 64 * 2**20  # bytes of JSON; Inception-ResNet v2 has 0.6 MB
OBJECT_LIMIT = 200_000  # in a configuration; Inception-ResNet v2 has 7,000
MAP_LIMIT = 2**30  # values of one feature map of one image, 4 GiB

# Layers that run what their configuration holds, or read files that it names.
UNSAFE = (
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)
FROM_KERAS_2 = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod")
# Values, not objects, in Keras' notation.
VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__", "__bytes__")
TUPLE = "__tuple__"  # of Keras 2
# Arguments that these layers inherited in Keras 2 and did not use; Keras 3 does not take them.
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
KERAS_2_ALONE = {
    "Conv2DTranspose": ("groups",),
    "DepthwiseConv2D": ("groups", *_KERNEL),
    "SeparableConv1D": ("groups", *_KERNEL),
    "SeparableConv2D": ("groups", *_KERNEL),
}
MODELS = {"Functional": keras.Model, "Model": keras.Model, "Sequential": keras.Sequential}
PLACES = (
    *(keras.layers, keras.initializers, keras.regularizers, keras.constraints),
    *(keras.dtype_policies, keras),
)
KINDS = (
    *(keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer),
    *(keras.constraints.Constraint, keras.DTypePolicy, keras.Operation),
)
# Modules of Keras, besides the public ones, whose classes a configuration may name; no others are imported.
OPERATIONS = tuple(f"keras.src.ops.{name}" for name in ("core", "image", "math", "nn", "numpy"))
APPLICATIONS = "keras.src.applications."
SCALE_LAYER = "CustomScaleLayer"  # of keras.applications' Inception-ResNet v2
_COUNTED = threading.local()


def is_whole_model(path: str) -> bool:
    """Tells whether a file holds a model with its configuration, as `model.save` writes it.

    Args:
        path: A file.

    Returns:
        False for weights alone, and for a file of another format.
    """
    import h5py

    if not os.path.isfile(path):
        return False
    if zipfile.is_zipfile(path):
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return CONFIG_IN_KERAS_FILE in archive.namelist()
        return False
    if not h5py.is_hdf5(path):
        return False
    with damage_is(f"'{path}' is damaged; give a complete file"), h5py.File(path, "r") as file:
        return CONFIG_IN_HDF5 in file.attrs


def load_keras_model(path: str) -> keras.Model:
    """Loads a model that Keras saved, without running or reading anything but Keras' own layers.

    Args:
        path: A `.keras` file, or an `.h5` file of `model.save` of Keras 2 or 3.

    Returns:
        The model, not compiled.

    Raises:
        UserError: The file is damaged, or larger unpacked than its size allows; it has a `Lambda`, a layer of another
            package or one that reads files; or its weights are not those of its layers.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        raise UserError(f"'{path}' is a folder; give the .keras file that model.save wrote")
    check_content(path, f"no model at '{path}'; give a .keras or .h5 file that model.save wrote")
    limit = hdf5.unpacked_limit(path)
    broken = f"'{path}' is damaged or not a Keras model; give a complete .keras or .h5 file"
    with damage_is(broken):
        is_archive = zipfile.is_zipfile(path)
        config = _config_of_archive(path) if is_archive else _config_of_hdf5(path)
        _check_config(config, path)
        content = hdf5.locate_hdf5(path, limit) if is_archive else path
        hdf5.check_arrays(content, path, limit)
    model = _built(config, path, limit)
    _check_maps(model, path)
    _load_weights(model, content, path)
    return model


def _config_of_archive(path: str) -> dict[str, Any]:
    with open_archive(path) as archive:
        member = archive.getinfo(CONFIG_IN_KERAS_FILE)
        check_member(path, member)
        if member.file_size > CONFIG_LIMIT:
            raise UserError(
                f"the configuration in '{path}' has {member.file_size:,} bytes, at most {CONFIG_LIMIT:,} are read"
            )
        return _parsed(b"".join(member_chunks(archive, member)))


def _config_of_hdf5(path: str) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        text = hdf5.text(file, CONFIG_IN_HDF5)
    if text is None:
        raise UserError(
            f"'{path}' holds weights without their network; give the file that model.save wrote, or say with --model"
            " which network they belong to"
        )
    return _upgraded(_parsed(text.encode()))


def _parsed(text: bytes) -> dict[str, Any]:
    config = json.loads(text)
    if not isinstance(config, dict):
        raise TypeError("no object")
    config.pop("compile_config", None)
    return config


def _upgraded(value: Any) -> Any:
    """A configuration of Keras 2 as Keras 3 takes it."""
    if isinstance(value, list):
        return [_upgraded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == TUPLE:
        return [_upgraded(item) for item in value.get("items", ())]
    value = {key: _upgraded(item) for key, item in value.items()}
    if isinstance(value.get("layers"), list) and "output_layers" in value:
        _upgrade_graph(value)
    inner = value.get("config")
    if isinstance(inner, dict):
        for argument in KERAS_2_ALONE.get(str(value.get("class_name")), ()):
            inner.pop(argument, None)
        axis = inner.get("axis")
        if value.get("class_name") == "BatchNormalization" and isinstance(axis, list):
            inner["axis"] = axis[0] if len(axis) == 1 else axis
        if value.get("class_name") in (SCALE_LAYER, f"Custom>{SCALE_LAYER}"):
            value |= {
                "class_name": SCALE_LAYER,
                "module": f"{APPLICATIONS}inception_resnet_v2",
                "registered_name": SCALE_LAYER,
            }
    return value


def _upgrade_graph(graph: dict[str, Any]) -> None:
    """Writes the calls in a functional model as Keras 3 does.

    In Keras 2 a model inside a model has a call of its own, numbered 0; Keras 3 allows for that in `output_layers` of
    functional models, and nowhere else.
    """
    nested, calls = {}, []
    for layer in graph["layers"]:
        for named in (layer, layer["config"]):
            named["name"] = _without_slash(named["name"])
        if layer.get("class_name") in MODELS:
            nested[layer.get("name")] = layer["class_name"]
        calls += [
            c for node in layer.get("inbound_nodes", ()) if isinstance(node, list) for c in node
        ]
    for call in calls:
        call[0] = _without_slash(call[0])
        if call[0] in nested:
            call[1] -= 1
    for ends in ("input_layers", "output_layers"):
        tensors = graph[ends]
        if isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], list):
            graph[ends] = tensors[0]  # a list would make the model take or give a list of one
        tensors = graph[ends]
        for tensor in [tensors] if isinstance(tensors[0], str) else tensors:
            tensor[0] = _without_slash(tensor[0])
            if calls and nested.get(tensor[0]) == "Sequential":
                tensor[1] -= 1


def _without_slash(name: str) -> str:
    """A layer's name as Keras 3 allows it: Keras 2's DenseNet has `conv1/conv`."""
    return name.replace("/", "_")


def _check_config(config: dict[str, Any], path: str) -> None:
    """Raises `UserError` where a configuration names anything but Keras' own safe classes and functions."""
    waiting: list[Any] = [config]
    objects = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            value.pop(
                "compile_config", None
            )  # of nested models: losses and metrics, which are not used
            if "class_name" in value:
                objects += 1
                _check_object(value, path)
            waiting += value.values()
    if objects > OBJECT_LIMIT:
        raise UserError(f"'{path}' has {objects:,} objects in its configuration; give another file")


def _check_object(value: Mapping[str, Any], path: str) -> None:
    name = value["class_name"]
    inner = value.get("config")
    layer = inner.get("name") if isinstance(inner, dict) else None
    where = f"layer '{shown_name(str(layer))}' of '{path}'" if layer else f"'{path}'"
    if name in UNSAFE or name == "__lambda__":
        raise UserError(
            f"{where} is a {shown_name(str(name))}, which runs code or reads files that the file names; only Keras' own"
            " layers are loaded: replace it by one, or build the model without it and save it again"
        )
    if name in FROM_KERAS_2:
        raise UserError(
            f"{where} is a TensorFlow operation that Keras 2 wrapped ({name}), which Keras 3 does not load; save the"
            " model without it, and say with --scale what the rest expects"
        )
    if name == "function":
        if not hasattr(keras.activations, str(inner)):
            raise UserError(
                f"{where} has the function '{shown_name(str(inner))}', which is none of Keras' activations; code of a"
                " file is not run"
            )
        return
    if name not in VALUES and not _is_known(value):
        module = value.get("registered_name") or value.get("module")
        origin = f" ({shown_name(str(module))})" if module else ""
        raise UserError(
            f"{where} has the class {shown_name(str(name))}{origin}, which is none of Keras' own; only those are"
            " loaded, and no code of a file: build the model of Keras' layers, or export its SavedModel by Keras itself"
        )


def _is_known(value: Mapping[str, Any]) -> bool:
    """Whether an entry of a configuration names a class of Keras, by its public name or in a module of operations."""
    name, module = value["class_name"], value.get("module") or "keras"
    if not (isinstance(name, str) and isinstance(module, str)):
        return False
    if (
        value.get("registered_name") not in (None, name)
        or f"{module}.".partition(".")[0] != "keras"
    ):
        return False
    if name in MODELS or name == "Policy":
        return True
    if module in OPERATIONS or module.startswith(APPLICATIONS):
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return False
    else:
        public = (getattr(place, name, None) for place in PLACES)
        found = next((one for one in public if one is not None), None)
    return isinstance(found, type) and issubclass(found, KINDS)


def _built(config: dict[str, Any], path: str, limit: int) -> keras.Model:
    """The model with initial weights, which take no more memory than the file allows."""
    with _bounded_weights(path, limit):
        try:
            if "module" in config:
                model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            else:
                made = MODELS.get(config.get("class_name", ""), keras.Model)
                model = made.from_config(config["config"])
        except UserError:
            raise
        except Exception as error:  # of whatever kind a layer raises for its arguments
            first: BaseException = error
            while first.__context__ is not None:
                first = first.__context__
            reason = next(iter(str(first).splitlines()), type(first).__name__)
            raise UserError(
                f"Keras {keras.__version__} cannot build the model in '{path}' ({shown_name(reason)});"
                " save it again with this version"
            ) from error
    if not isinstance(model, keras.Model):
        raise UserError(f"'{path}' holds a {type(model).__name__}, not a model")
    if not model.built:
        raise UserError(
            f"the model in '{path}' is not built; call it on an image and save it again"
        )
    return model


@contextlib.contextmanager
def _bounded_weights(path: str, limit: int) -> Iterator[None]:
    """Refuses a weight, before it is created, that would bring the weights of this thread's layers above a limit.

    A few bytes of a configuration can ask for any number of weights.
    """
    create = keras.layers.Layer.add_weight

    def bounded(
        layer: keras.layers.Layer, shape: Any = None, *arguments: Any, **options: Any
    ) -> Any:
        if getattr(_COUNTED, "limit", None) is not None:
            count = 1
            for side in shape or ():
                count *= int(side)
            _COUNTED.bytes += 4 * count
            if _COUNTED.bytes > _COUNTED.limit:
                raise UserError(
                    f"layer '{shown_name(layer.name)}' of '{path}' brings its weights to {_COUNTED.bytes:,} bytes, and"
                    f" the file has room for {_COUNTED.limit:,}; give an undamaged file"
                )
        return create(layer, shape, *arguments, **options)

    with _PATCHING:
        _COUNTED.limit, _COUNTED.bytes = limit, 0
        keras.layers.Layer.add_weight = bounded
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = create
            _COUNTED.limit = None


_PATCHING = threading.Lock()


def _check_maps(model: keras.Model, path: str) -> None:
    """That no feature map of one image is too large for a machine, whatever an upsampling asks for."""
    for operation in getattr(model, "operations", model.layers):
        for tensor in keras.tree.flatten(operation.output):
            count = 1
            for side in tensor.shape[1:]:
                count *= side or 1
            if count > MAP_LIMIT:
                raise UserError(
                    f"layer '{shown_name(operation.name)}' of '{path}' makes {count:,} values of one image, more than"
                    f" {MAP_LIMIT:,}; give another model"
                )


def _load_weights(model: keras.Model, content: str | io.BytesIO, path: str) -> None:
    wrong = f"the weights in '{path}' are not those of its layers"
    floats = [v for v in model.weights if keras.backend.is_float_dtype(v.dtype)]
    for variable in floats:
        variable.assign(np.full(variable.shape, np.nan))
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            # Keras warns of lists of layers that the file has not; what is missing then is found below.
            warnings.simplefilter("ignore")
            # Keras chooses the format by the name.
            if isinstance(content, str):
                file = Path(scratch, "model.h5")
                file.symlink_to(os.path.abspath(content))
            else:
                file = Path(scratch, "model.weights.h5")
                file.write_bytes(content.getbuffer())
            model.load_weights(file)
    except (ValueError, KeyError, OSError, AttributeError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{wrong} ({shown_name(reason)}); give an undamaged file") from error
    for variable in floats:
        if np.isnan(keras.ops.convert_to_numpy(variable)).any():
            raise UserError(
                f"{wrong}: '{shown_name(variable.path)}' is missing or has values that are no numbers; give an"
                " undamaged file"
            )
