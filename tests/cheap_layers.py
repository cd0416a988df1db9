# SPDX-License-Identifier: Apache-2.0
"""A fifth of the time of building a Keras layer, saved: for the default run, which builds a hundred thousand of them.

Every layer sets dozens of attributes that are numbers, strings or functions, and Keras and TensorFlow look for variables in
each; it asks for the signatures of the same few methods; and before Python 3.12 a protocol lists its attributes each time.
Nothing else changes, as test_cheap_layers.py shows; `scripts/test --all` and child processes do without it.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
import weakref
from types import FunctionType, MethodType

__all__ = ["install", "kept_by_function", "set_plain_attributes_directly"]

PLAIN = frozenset({bool, int, float, str, type(None), FunctionType, MethodType})


def install() -> None:
    """In this process from now on."""
    import keras

    keras.Layer.__setattr__ = set_plain_attributes_directly(keras.Layer.__setattr__)
    inspect.signature = kept_by_function(inspect.signature)
    if sys.version_info < (3, 12):
        typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


def set_plain_attributes_directly(set_attribute):
    """`keras.Layer.__setattr__` that looks for variables only where there can be any."""

    @functools.wraps(set_attribute)
    def setattr_(self, name, value):
        if type(value) not in PLAIN:
            set_attribute(self, name, value)
        # As Keras does, which calls no setter of a property where nothing changes.
        elif getattr(self, name, setattr_) is not value:
            object.__setattr__(self, name, value)

    return setattr_


def kept_by_function(signature_of):
    """`inspect.signature` that looks at a function once, and once as a method."""
    kept = weakref.WeakKeyDictionary()

    @functools.wraps(signature_of)
    def signature(called, **settings):
        function = getattr(called, "__func__", called)
        if settings or type(function) is not FunctionType or vars(function):
            return signature_of(called, **settings)
        found = kept.setdefault(function, {})
        bound = function is not called
        if bound not in found:
            found[bound] = signature_of(called)
        return found[bound]

    return signature
