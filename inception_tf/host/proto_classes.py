# SPDX-License-Identifier: Apache-2.0
"""Protobuf messages declared in Python, for files whose own protos would import a whole framework or are not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["Field", "proto_class"]


class Field(NamedTuple):
    """One field of a message, by the number that its `.proto` file gives it."""

    name: str
    number: int
    type: (
        str  # a scalar type as in a .proto file (`string`, `int64`), or a message of the same table
    )
    repeated: bool = False


def proto_class(
    package: str,
    messages: Mapping[str, tuple[Field, ...]],
    name: str,
    syntax: Literal["proto2", "proto3"] = "proto3",
) -> Any:
    """Returns the Python class of one message of a table, in a new descriptor pool.

    The pool keeps the messages apart from those of the same package that a framework may have registered.
    Fields that the table leaves out are unknown fields to the class: it keeps them when it serializes.

    Args:
        package: Protobuf package of the messages, such as `inception_tf.caffe`.
        messages: Message names to their fields; a map field is a repeated message of `key` and `value`.
        name: The message whose class is returned.
        syntax: The syntax of the `.proto` file that the table follows.

    Returns:
        A subclass of `google.protobuf.message.Message`.
    """
    # Here, so that importing a module with a table needs no protobuf: it comes with TensorFlow alone.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax=syntax
    )
    for message, fields in messages.items():
        descriptor = file.message_type.add(name=message)
        for field in fields:
            label = proto.LABEL_REPEATED if field.repeated else proto.LABEL_OPTIONAL
            added = descriptor.field.add(name=field.name, number=field.number, label=label)
            if field.type in messages:
                added.type, added.type_name = proto.TYPE_MESSAGE, f".{package}.{field.type}"
            else:
                added.type = proto.Type.Value(f"TYPE_{field.type.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
