# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Datasets as a data source: its API finds and describes the data, and its records are read by location."""

from __future__ import annotations

import re
from typing import Any

from inception_tf.data.sources.record_index import index_records
from inception_tf.data.sources.split_names import assign_splits
from inception_tf.data.sources.splits import Source, Split, hold_out, joined
from inception_tf.data.sources.tfrecords import checked_index, record_split
from inception_tf.errors import UserError, did_you_mean, missing_package

__all__ = ["open_tfds"]


def open_tfds(
    name: str, dataset: str, folder: str | None = None, *, split_names: str | None = None
) -> Source:
    """Open a data set of TensorFlow Datasets, in `TFDS_DATA_DIR` or ~/tensorflow_datasets.

    A data set that is not there is downloaded and prepared by TFDS, as `tfds.load` does.

    Args:
        name: str. The name of the source.
        dataset: str. NAME or NAME/VERSION.
        folder: str. Where TFDS has prepared it already; nothing is then downloaded.
        split_names: str. Which of its splits are which, `train=train,validation=test`; None: by their names.

    Returns:
        The source.

    Raises:
        UserError: The data set is unknown, cannot be prepared, is no set of images with one class each, or TFDS
            is not installed.
    """
    builder = _builder(dataset, folder)
    if not builder.is_prepared():
        if folder is not None:
            raise UserError(
                f"{name} is not prepared in {folder}; name the folder that was data_dir of tfds.load,"
                " or omit it, and TFDS prepares the data"
            )
        _prepare(builder, name)
    features = builder.info.features
    keys = builder.info.supervised_keys or ("image", "label")
    if not set(keys) <= set(features) or not hasattr(features[keys[1]], "names"):
        raise UserError(f"{name} is not a set of images with one class each")
    labels = tuple(features[keys[1]].names)
    assigned = assign_splits(builder.info.splits, name, chosen=split_names, kind="splits")
    assigned = assigned or {"train": tuple(builder.info.splits)}
    splits = {
        split: joined([_split(builder.info, part, keys) for part in parts])
        for split, parts in assigned.items()
    }
    if set(splits) == {"train"}:
        splits = hold_out(splits["train"])
    return Source(name, labels, splits)


def _builder(dataset: str, folder: str | None) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise missing_package("data 'tfds:...'", "tensorflow-datasets", "train") from error
    # TFDS writes NAME:VERSION.
    spelled = re.sub(r"/(\d+\.\d+\.\d+)$", r":\1", dataset)
    try:
        return tfds.builder(spelled, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        near = did_you_mean(dataset, tfds.list_builders())  # too many to list them
        raise UserError(f"TFDS has no data '{dataset}'{near}") from error
    except (AssertionError, ValueError) as error:
        raise UserError(f"TFDS cannot open '{dataset}': {_first_line(error)}") from error


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises what its downloader raises
        raise UserError(
            f"{name} is not in {builder.data_dir} and TFDS could not prepare it: {_first_line(error)}"
        ) from error


def _split(info: Any, part: str, keys: tuple[str, str]) -> Split:
    files = tuple(str(path) for path in info.splits[part].filepaths)
    if info.file_format.value != "tfrecord":
        raise UserError(
            f"{info.full_name} is stored as {info.file_format.value}; prepare it with file_format='tfrecord'"
        )
    index = index_records(files, dict(zip(("image", "label"), keys, strict=True)))
    names = info.features[keys[1]].names
    return record_split(checked_index(index, names, info.full_name, 0), 0)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
