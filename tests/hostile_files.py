# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile weights files: makes them, loads each, and writes what happens to docs/hostile-files.md.

    python tests/hostile_files.py                      # compares with the page
    python tests/hostile_files.py --write              # writes it
    python tests/hostile_files.py --pickles [--write]  # those of torch, with an interpreter that has torch

All are loaded in this process, under a limit of memory: what ends or fills it ends the script.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import re
import resource
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import caffe_file
import h5py
import numpy as np
import ramps
import tf_table
import torch_file
from short_networks import least, shorten_all

import inception_tf
from inception_tf.classifiers import open_classifier
from inception_tf.errors import USER_MISTAKE, UserError, explain_error
from inception_tf.models import find_network
from inception_tf.weights.names import bvlc, keras_applications, slim

PAGE = Path(__file__).parents[1] / "docs" / "hostile-files.md"
MEMORY = (
    2**30
)  # bytes that all files together may take on top of what the process has with its models
FLIPS = 200  # of the page
SECONDS = 10.0  # of processor time for one file, however busy the machine is
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
FAULT = "INTERNAL ERROR: "
LOADS = "loads, all numbers as they were"
SILENT = "loads with another number: this format has no checksum"
HUGE = 2**62


class Files:
    """Makes files in a folder; each is `(format, what is wrong with it, path)`."""

    def __init__(self, folder: Path):
        self.folder, self.made = folder, []
        self.whole: list[tuple[str, Path]] = []  # undamaged ones, in which bits are flipped

    def path(self, form: str, what: str, name: str) -> Path:
        path = self.folder / f"{len(self.made):03}" / name
        path.parent.mkdir()
        self.made.append((form, what, path))
        return path

    def put(self, form: str, what: str, name: str, content: bytes) -> None:
        self.path(form, what, name).write_bytes(content)

    def damaged(self, form: str, name: str, whole: bytes) -> None:
        """What can happen to a file of any format."""
        half = len(whole) // 2
        self.whole.append((form, self.folder.parent / f"whole-{len(self.whole)}-{name}"))
        self.whole[-1][1].write_bytes(whole)
        self.put(form, "empty", name, b"")
        self.put(form, "one byte", name, whole[:1])
        self.put(form, "cut in half", name, whole[:half])
        self.put(form, "last byte missing", name, whole[:-1])
        self.put(form, "first byte flipped", name, flipped(whole, 0))
        if form in CHECKED:  # of the others the table of flips tells
            self.put(form, "a bit flipped in the middle", name, flipped(whole, half))
        self.put(form, "zeros of its size", name, bytes(len(whole)))
        self.put(form, "a Git LFS pointer", name, LFS)
        self.put(form, "a web page", name, b"<!DOCTYPE html><html>404 not found</html>\n" * 20)
        self.path(form, "a folder", name).mkdir()
        os.mkfifo(self.path(form, "a named pipe", name))
        for what, target in (
            ("a link to itself", name),
            ("a link to /dev/zero", "/dev/zero"),
            ("a link to nothing", "gone"),
        ):
            self.path(form, what, name).symlink_to(target)


def flipped(content: bytes, place: int, bit: int = 3) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def small(name: str, **arguments):
    side = {"inception_v3": 75}.get(name, 32)
    arguments = {"input_shape": (side, side, 3), "classes": 5, "width_multiplier": 0.05} | arguments
    model = inception_tf.create_model(name, **arguments)
    ramps.fill(model)
    return model


def values(model) -> dict[str, np.ndarray]:
    return {
        w.path: np.asarray(w.value) if not hasattr(w, "numpy") else w.numpy() for w in model.weights
    }


# HDF5


def hdf5_files(files: Files, model, folder: Path) -> None:
    """Of this project, `.weights.h5`."""
    base = folder / "base.weights.h5"
    model.save_weights(base)
    files.damaged(".weights.h5", "x.weights.h5", base.read_bytes())
    secret = folder / "private.bin"
    secret.write_bytes(bytes(range(40)))
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.ones(5, "f4")
    layout = h5py.VirtualLayout(shape=(5,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape=(5,))

    def edit(what: str, change: Callable[[h5py.File, h5py.Group], None]) -> None:
        path = files.path(".weights.h5", what, "x.weights.h5")
        path.write_bytes(base.read_bytes())
        with h5py.File(path, "r+") as file:
            group = next(
                g["vars"]
                for g in file["layers"].values()
                if g["vars"].attrs.get("name") == "Logits"
            )
            del group["1"]
            change(file, group)

    def dataset(what: str, *arguments, **keywords) -> None:
        edit(what, lambda file, group: group.create_dataset("1", *arguments, **keywords))

    def zeros(group, **keywords) -> None:
        group.create_dataset("1", data=np.zeros(5, "f4"), **keywords)

    dataset("external storage", (5,), "f4", external=[(str(secret), 0, 20)])
    edit(
        "an external link",
        lambda f, g: g.__setitem__("1", h5py.ExternalLink(str(folder / "other.h5"), "/x")),
    )
    edit("a soft link", lambda f, g: g.__setitem__("1", h5py.SoftLink(g.name + "/0")))
    edit("a virtual dataset", lambda f, g: g.create_virtual_dataset("1", layout))
    edit(
        "an external link for a group",
        lambda f, g: f["layers"].__setitem__("more", h5py.ExternalLink(str(base), "/layers")),
    )
    edit(
        "a soft link to its own group",
        lambda f, g: f["layers"].__setitem__("loop", h5py.SoftLink("/layers")),
    )
    edit(
        "a group that holds itself",
        lambda f, g: (
            g.create_dataset("1", data=values(model)["Logits/bias"]),
            f["layers"].__setitem__("loop", f["layers"]),
        ),
    )
    edit(
        "object references",
        lambda f, g: g.create_dataset("1", data=np.array([f.ref] * 5, h5py.ref_dtype)),
    )
    edit(
        "region references",
        lambda f, g: g.create_dataset(
            "1", data=np.array([g["0"].regionref[:1]] * 5, h5py.regionref_dtype)
        ),
    )
    edit("a group for an array", lambda f, g: g.create_group("1"))
    edit("an array missing", lambda f, g: None)
    edit("deep groups", deep)
    dataset("a scalar for a bias", data=np.float32(1))
    dataset("a kernel for a bias", data=np.zeros((5, 5), "f4"))
    dataset("no shape", data=h5py.Empty("f4"))
    dataset("no numbers in it", (5,), "f4")
    dataset("strings", data=np.array([b"a", b"b", b"c", b"d", b"e"]))
    dataset("strings of any length", data=np.array(["a"] * 5, object), dtype=h5py.string_dtype())
    dataset("integers", data=np.zeros(5, "i4"))
    dataset("booleans", data=np.zeros(5, "?"))
    dataset("complex numbers", data=np.zeros(5, "c8"))
    dataset("a record", data=np.zeros(5, [("a", "f4")]))
    dataset("an array of opaque bytes", data=np.zeros(5, "V3"))
    dataset("not a number", data=np.array([0, np.nan, 0, 0, 0], "f4"))
    dataset("infinity", data=np.array([0, np.inf, 0, 0, 0], "f4"))
    dataset("float64 beyond float32", data=np.full(5, 1e300))
    dataset("a shape of 2^40", (2**40,), "f4", chunks=(2**20,))
    dataset("a shape of 2^62", (HUGE // 8,), "f4", chunks=(2**20,))
    dataset("a shape of 2^40 by 2^10", (2**40, 2**10), "f4", chunks=(2**10, 2**10))
    edit("a chunk of 1 GiB", lambda f, g: packed(g, bomb(2**30), chunks=(2**28,), maxshape=(None,)))
    edit("a chunk that unpacks to 1 GiB", lambda f, g: packed(g, bomb(2**30)))
    edit("a chunk of another size", lambda f, g: packed(g, zlib.compress(bytes(8))))
    edit("a chunk with a broken deflate stream", lambda f, g: packed(g, b"\x78\x9cbroken"))
    edit("gzip, twice", lambda f, g: filtered(g, [h5py.h5z.FILTER_DEFLATE] * 2))
    edit("a filter that needs a plugin", lambda f, g: filtered(g, [32015]))
    edit("lzf", lambda f, g: zeros(g, chunks=(5,), compression="lzf"))
    dataset(
        "gzip and shuffle",
        data=values(model)["Logits/bias"],
        chunks=(5,),
        compression="gzip",
        shuffle=True,
        fletcher32=True,
    )
    edit(
        "a layer's name in bytes",
        lambda f, g: (
            g.create_dataset("1", data=values(model)["Logits/bias"]),
            g.attrs.__setitem__("name", np.bytes_(b"Logits")),
        ),
    )
    edit("a layer's name that is a number", lambda f, g: (zeros(g), g.attrs.__setitem__("name", 7)))
    edit(
        "a layer's name that is an array",
        lambda f, g: (zeros(g), g.attrs.__setitem__("name", ["a", "b"])),
    )
    edit(
        "a layer's name with ../",
        lambda f, g: (zeros(g), g.attrs.__setitem__("name", "../../etc/passwd")),
    )
    edit(
        "a layer's name of bytes that are no text",
        lambda f, g: (zeros(g), g.attrs.__setitem__("name", np.bytes_(b"\xff\xfe"))),
    )
    edit(
        "a layer's name of 40,000 letters",
        lambda f, g: (zeros(g), g.attrs.__setitem__("name", "x" * 40_000)),
    )
    edit(
        "a layer's name of two lines",
        lambda f, g: (zeros(g), g.attrs.__setitem__("name", "a\nb\x1b[31m")),
    )
    edit("two layers of one name", lambda f, g: (zeros(g), f.copy(g.parent, "layers/twice")))
    edit(
        "an array more, of 2^40",
        lambda f, g: (zeros(g), g.create_dataset("2", (2**40,), "f4", chunks=(2**20,))),
    )
    for what, value in SETTINGS.items():
        path = files.path(".weights.h5 with settings", what, "x.weights.h5")
        path.write_bytes(base.read_bytes())
        with h5py.File(path, "r+") as file:
            for key in ("inception_tf_preprocessing", "inception_tf_switches"):
                file.attrs[key] = value
    path = files.path(".weights.h5 with settings", "an array", "x.weights.h5")
    path.write_bytes(base.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["inception_tf_preprocessing"] = np.zeros(3)


# What a file may say of its preprocessing and its switches.
SETTINGS = {
    "no JSON": "{",
    "no object": "[1, 2]",
    "nested 60,000 deep": "[" * 60_000,
    "unknown fields": '{"weights": "/etc/passwd"}',
    "a size of 10^9": '{"size": 1000000000}',
    "a size that is text": '{"size": "x"}',
    "a scale that is a list": '{"size": 32, "scale": []}',
}


def deep(file: h5py.File, group: h5py.Group) -> None:
    for _ in range(2000):
        group = group.create_group("d")


def bomb(size: int) -> bytes:
    """A deflate stream of so many zeros."""
    return b"\x78\xda" + raw_bomb(size) + bytes(4)


def packed(group: h5py.Group, chunk: bytes, chunks: tuple[int, ...] = (5,), **keywords) -> None:
    made = group.create_dataset("1", (5,), "f4", chunks=chunks, compression="gzip", **keywords)
    made.id.write_direct_chunk((0,), chunk)


def filtered(group: h5py.Group, filters: list[int]) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((5,))
    for one in filters:
        plist.set_filter(one, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(group.id, b"1", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((5,)), plist)


def keras_files(files: Files, model, folder: Path) -> None:
    """A `.keras` archive of this project's model."""
    weights = folder / "inside.weights.h5"
    model.save_weights(weights)

    def archive(
        what: str, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, patch=None
    ) -> None:
        content = zipped(members, method)
        files.put(".keras", what, "x.keras", patch(content) if patch else content)

    inside = ("model.weights.h5", weights.read_bytes())
    config = (
        "config.json",
        b'{"class_name": "Lambda", "module": "keras.layers", "config": {"function": {}}}',
    )
    whole = zipped([config, inside])
    files.damaged(".keras", "x.keras", whole)
    at = whole.index(inside[1]) + len(inside[1]) // 2
    files.put(".keras", "a bit of a weight flipped", "x.keras", flipped(whole, at))
    archive("a Lambda in its configuration, which is not read", config, inside)
    archive("no weights", config)
    archive("compressed weights", inside, method=zipfile.ZIP_DEFLATED)
    archive("compressed by LZMA", inside, method=zipfile.ZIP_LZMA)
    archive("an unknown method", inside, patch=lambda c: patched_zip(c, method=99))
    archive("an encrypted member", inside, patch=lambda c: patched_zip(c, flags=1))
    archive(
        "a broken deflate stream",
        inside,
        method=zipfile.ZIP_DEFLATED,
        patch=lambda c: c[:60] + bytes(40) + c[100:],
    )
    archive(
        "6 GiB of zeros in 6 MB",
        ("model.weights.h5", b""),
        patch=lambda c: zip_bomb("model.weights.h5", 6 * 2**30, lie=False),
    )
    archive(
        "1 GiB that says it is 1,000 bytes",
        ("model.weights.h5", b""),
        patch=lambda c: zip_bomb("model.weights.h5", 2**30, lie=True),
    )
    archive("weights twice", inside, inside)
    archive("weights that are no HDF5", ("model.weights.h5", b"not HDF5" * 100))
    archive("members with ../", ("../../../tmp/evil", b"x"), ("/etc/evil", b"x"), inside)

    def settings(what: str, member: bytes, patch=None, more=config) -> None:
        content = zipped([more, inside, ("metadata.json", member)])
        files.put(".keras with settings", what, "x.keras", patch(content) if patch else content)

    for what, value in SETTINGS.items():
        member = f'{{"inception_tf_preprocessing": {value}, "inception_tf_switches": {value}}}'
        settings(what, member.encode())
    settings("a network that is a list", b'{"inception_tf_network": ["inception_v1"]}')
    settings("a network of another package", b'{"inception_tf_network": "resnet50"}')
    settings("a width of 10^9", stated(width_multiplier=1e9))
    settings("a width of 10^308", stated(width_multiplier=1e308))
    settings("a width that is not a number", stated(width_multiplier=float("nan")))
    settings("a width below zero", stated(width_multiplier=-1))
    settings("a width that is text", stated(width_multiplier="wide"))
    settings("an activation that is a file", stated(activation="../../x.py"))
    settings("an activation that Keras does not have", stated(activation="eval"))
    settings("a switch of another network", stated(last_pool="max"))
    settings("a switch that builds other weights", stated(weights="/etc/passwd"))
    settings("metadata of 2 MiB", b" " * 2**21)
    settings("encrypted metadata", b"{}", patch=lambda c: patched_zip(c, flags=1))
    settings(
        "a bit of the metadata flipped",
        stated(),
        patch=lambda c: flipped(c, c.index(b"inception_tf_network") + 3),
    )
    settings(
        "a configuration nested 60,000 deep",
        b"{}",
        more=("config.json", b'{"config":' + b"[" * 60_000),
    )
    settings("a configuration of 17 MiB", b"{}", more=("config.json", b" " * (17 * 2**20)))
    settings(
        "a bit of the configuration flipped",
        b"{}",
        patch=lambda c: flipped(c, c.index(b"Lambda")),
    )


def stated(**switches) -> bytes:
    """The metadata of a `.keras` file of inception_v1."""
    found = {"inception_tf_network": "inception_v1", "inception_tf_switches": switches}
    return json.dumps(found).encode()


def zipped(members, method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names given twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return content.getvalue()


def patched_zip(content: bytes, method: int | None = None, flags: int | None = None) -> bytes:
    """Another method or other flags of all members, in both headers."""
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(mark)
        while start >= 0:
            if flags is not None:
                changed[start + place : start + place + 2] = struct.pack("<H", flags)
            if method is not None:
                changed[start + place + 2 : start + place + 4] = struct.pack("<H", method)
            start = changed.find(mark, start + 4)
    return bytes(changed)


def zip_bomb(name: str, size: int, lie: bool) -> bytes:
    """An archive of one member of zeros; with `lie` its headers say 1,000 bytes."""
    data, said = raw_bomb(size), 1000 if lie else size
    crc = zlib.crc32(bytes(1000)) if lie else 0
    extra = b"" if said < 2**32 else struct.pack("<HHQ", 1, 8, said)
    short = min(said, 0xFFFFFFFF)
    raw = name.encode()
    fields = struct.pack(
        "<HHHHHIIIHH", 45, 0, 8, 0, 33, crc, len(data), short, len(raw), len(extra)
    )
    local = b"PK\x03\x04" + fields + raw + extra + data
    central = (
        b"PK\x01\x02"
        + struct.pack("<H", 45)
        + fields
        + struct.pack("<HHHII", 0, 0, 0, 0, 0)
        + raw
        + extra
    )
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def raw_bomb(size: int) -> bytes:
    """A raw deflate stream of zeros, by repeating the block that one MiB of them makes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(2**20))
    packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * (size // 2**20) + packer.flush()


def keras2_files(files: Files, model, folder: Path) -> None:
    """`.h5` as Keras 2 wrote `keras.applications`."""
    names = dict(keras_paths(model))
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path, array in values(model).items():
        layer, kind = names[path].split("/")
        layers.setdefault(layer, {})[f"{layer}/{kind}:0"] = array

    def write(what: str, change: Callable[[h5py.File], object] | None = None) -> Path:
        path = files.path(".h5 of Keras 2", what, "x.h5") if what else folder / "keras2.h5"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [np.bytes_(layer.encode()) for layer in layers]
            for layer, weights in layers.items():
                group = file.create_group(layer)
                group.attrs["weight_names"] = [np.bytes_(name.encode()) for name in weights]
                for name, array in weights.items():
                    group[name] = array
            if change:
                change(file)
        return path

    files.damaged(".h5 of Keras 2", "x.h5", write("").read_bytes())
    head = "predictions/predictions/bias:0"

    def replaced(value) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[head]
            file[head] = value

        return change

    write("as Keras 2 wrote it")
    write(
        "a layer's name that is not there",
        lambda f: f.attrs.__setitem__("layer_names", [b"nowhere"]),
    )
    write("integers for layers' names", lambda f: f.attrs.__setitem__("layer_names", [1, 2, 3]))
    write("a number for the layers' names", lambda f: f.attrs.__setitem__("layer_names", 3))
    write("a layer named twice", lambda f: f.attrs.__setitem__("layer_names", [b"predictions"] * 2))
    write("no names of weights", lambda f: f["predictions"].attrs.__delitem__("weight_names"))
    write(
        "a weight's name with ..",
        lambda f: f["predictions"].attrs.__setitem__("weight_names", [b"../predictions"]),
    )
    write("an external link", replaced(h5py.ExternalLink("other.h5", "/x")))
    write("a soft link", replaced(h5py.SoftLink("/predictions")))
    write("a scalar for a bias", replaced(np.float32(1)))
    write("not a number", replaced(np.full(5, np.nan, "f4")))


def keras_paths(model) -> Iterator[tuple[str, str]]:
    """Our variable path → that of a keras.applications whose layers are numbered from 1."""
    network = find_network("inception_v3")
    count = sum(path.endswith("_conv/kernel") for path in values(model))
    numbered = [
        f"{stem}_{n}/x" for stem in ("conv2d", "batch_normalization") for n in range(1, count + 1)
    ]
    yield from keras_applications.keras_names(network, numbered).items()


# torch


def safetensors_files(files: Files, model, folder: Path) -> None:
    state = torch_state(model)
    base = folder / "base.safetensors"
    torch_file.write(base, state)
    whole = base.read_bytes()
    files.damaged(".safetensors", "x.safetensors", whole)
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def write(what: str, change: Callable[[dict], object], more: bytes = b"") -> None:
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode()
        files.put(
            ".safetensors", what, "x.safetensors", struct.pack("<Q", len(text)) + text + data + more
        )

    bias = "fc.bias"
    start, end = header[bias]["data_offsets"]
    write("as it was saved", lambda h: None)
    write("bytes after the data", lambda h: None, b"more")
    write("a shape of 2^62 by 2^62", lambda h: h[bias].update(shape=[HUGE, HUGE]))
    write("a shape that does not fit its data", lambda h: h[bias].update(shape=[6]))
    write("a negative side", lambda h: h[bias].update(shape=[-5]))
    write("a side that is no number", lambda h: h[bias].update(shape=["5"]))
    write(
        "data beyond the end", lambda h: h[bias].update(data_offsets=[start, 2**40], shape=[2**38])
    )
    write("data that end before they start", lambda h: h[bias].update(data_offsets=[end, start]))
    write(
        "two arrays on the same data",
        lambda h: h["fc.weight"].update(data_offsets=[start, end], shape=[5]),
    )
    write("an unknown type", lambda h: h[bias].update(dtype="F99"))
    write("integers for a bias", lambda h: h[bias].update(dtype="I32"))
    write("an entry that is a list", lambda h: h.update({bias: [1, 2]}))
    write("an array missing", lambda h: h.pop(bias))
    write("an array of another name", lambda h: h.update({"../../evil": h.pop(bias)}))
    files.put(
        ".safetensors",
        "a header of 2^63 bytes",
        "x.safetensors",
        struct.pack("<Q", 2**63) + whole[8:],
    )
    files.put(
        ".safetensors",
        "a header of 99 MB that is not there",
        "x.safetensors",
        struct.pack("<Q", 99 * 10**6) + whole[8:],
    )
    files.put(
        ".safetensors",
        "a header nested 100,000 deep",
        "x.safetensors",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    )
    files.put(
        ".safetensors",
        "a header in another encoding",
        "x.safetensors",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
    )
    for what, key, array in (
        ("not a number", bias, np.full(5, np.nan, "f4")),
        ("infinity", bias, np.full(5, -np.inf, "f4")),
        ("gamma of rank 0", "conv1.bn.weight", np.float32(1)),
        ("gamma of rank 2", "conv1.bn.weight", np.ones((1, len(state["conv1.bn.weight"])), "f4")),
        ("gamma too short", "conv1.bn.weight", np.ones(1, "f4")),
        ("a scalar kernel", "conv1.conv.weight", np.float32(1)),
        ("a scalar for the classifier", "fc.weight", np.float32(1)),
        ("a bias of no classes", bias, np.zeros((0,), "f4")),
    ):
        torch_file.write(
            files.path(".safetensors", what, "x.safetensors"), state | {key: np.asarray(array)}
        )


def torch_state(model) -> dict[str, np.ndarray]:
    from inception_tf.weights.names import torch

    names, state = torch.torch_names(find_network("inception_v1")), {}
    for path, array in values(model).items():
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
        state[names[path]] = np.ascontiguousarray(array.transpose(order))
    gammas = {
        n.replace("running_mean", "weight"): np.ones_like(a)
        for n, a in state.items()
        if n.endswith(".bn.running_mean")
    }
    return state | gammas


def deeper(value: dict, depth: int) -> dict:
    for _ in range(depth):
        value = {"state_dict": value}
    return value


def itself(state: dict) -> dict:
    found = {"state_dict": state}
    found["model"] = found
    return found


def pickle_files(files: Files, model, folder: Path) -> None:
    """torch's `.pth` in both forms, saved by torch itself and changed."""
    import torch

    state = {name: torch.from_numpy(array.copy()) for name, array in torch_state(model).items()}

    def saved(value, **keywords) -> bytes:
        content = io.BytesIO()
        torch.save(value, content, **keywords)
        return content.getvalue()

    whole, old = saved(state), saved(state, _use_new_zipfile_serialization=False)
    files.damaged(".pth", "x.pth", whole)
    files.damaged(".pth of before torch 1.6", "x.pth", old)
    one = state["fc.weight"].numpy().tobytes()
    files.put(".pth", "a bit of a weight flipped", "x.pth", flipped(whole, whole.index(one) + 5))
    files.put(".pth", "as it was saved", "x.pth", whole)
    files.put(".pth of before torch 1.6", "as it was saved", "x.pth", old)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    files.put(".pth", "compressed", "x.pth", zipped(members, zipfile.ZIP_DEFLATED))
    files.put(".pth", "a bomb for a weight", "x.pth", zip_bomb(members[1][0], 2**30, lie=False))
    files.put(".pth", "an encrypted member", "x.pth", patched_zip(whole, flags=1))
    files.put(".pth", "an unknown method", "x.pth", patched_zip(whole, method=99))
    files.put(".pth", "a member missing", "x.pth", zipped(members[:-4]))
    files.put(".pth", "a member twice", "x.pth", zipped([*members, members[-1]]))
    files.put(
        ".pth",
        "members with ../",
        "x.pth",
        zipped([(f"../{name}", data) for name, data in members]),
    )

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(folder / "ran"),)

    files.put(".pth", "a pickle that runs code", "x.pth", saved(state | {"fc.bias": Trap()}))
    files.put(".pth of before torch 1.6", "a pickle that runs code", "x.pth", pickle.dumps(Trap()))
    # What a trainer keeps beside the weights: types and numbers of NumPy, here of any size.
    types, number = {"bytes": "V2000000000", "text": "U500000000", "objects": "O"}, np.float64(0)

    class Type:
        def __init__(self, text: str):
            self.text = text

        def __reduce__(self):
            return np.dtype, (self.text,)

    class Number(Type):
        def __reduce__(self):
            return number.__reduce__()[0], (Type(self.text),)

    beside = {"state_dict": state, "best": number, "type": np.dtype("f4")}
    files.put(".pth", "numbers of NumPy beside the weights", "x.pth", saved(beside))
    for what, text in types.items():
        content = saved({"state_dict": state, "best": Number(text)})
        files.put(".pth", f"a number of NumPy made of {what}, 2 GB", "x.pth", content)
    content = saved({"state_dict": state, "type": Type("V2000000000")})
    files.put(".pth", "a type of NumPy of 2 GB", "x.pth", content)
    content = saved({"state_dict": state, "best": Number("f8")})
    files.put(".pth", "a number of NumPy without its bytes", "x.pth", content)
    changed = {
        "not a number": {"fc.bias": torch.full((5,), float("nan"))},
        "a tensor of 2^40 that repeats one number": {"fc.bias": torch.zeros(1).expand(2**40)},
        "integers": {"fc.bias": torch.zeros(5, dtype=torch.int32)},
        "complex numbers": {"fc.bias": torch.zeros(5, dtype=torch.complex64)},
        "a sparse tensor": {"fc.bias": torch.zeros(5).to_sparse()},
        "a quantized tensor": {
            "fc.bias": torch.quantize_per_tensor(torch.zeros(5), 1.0, 0, torch.qint8)
        },
        "a tensor without data": {"fc.bias": torch.zeros(5, device="meta")},
        "a number for a tensor": {"fc.bias": 3},
        "a scalar kernel": {"conv1.conv.weight": torch.tensor(1.0)},
        "gamma of rank 2": {"conv1.bn.weight": torch.ones(1, 3)},
        "a number for a name": {7: torch.zeros(5)},
    }
    for what, change in changed.items():
        files.put(".pth", what, "x.pth", saved(state | change))
    for what, value in (
        ("in a dictionary of a trainer", {"state_dict": state, "epoch": 3}),
        ("dictionaries nested 100 deep", deeper(state, 100)),
        ("a dictionary that holds itself", itself(state)),
    ):
        files.put(".pth", what, "x.pth", saved(value))
    for what, value in (("a list", [1, 2]), ("a tensor alone", state["fc.bias"]), ("no entry", {})):
        files.put(".pth", what, "x.pth", saved(value))


# NumPy, Caffe, TensorFlow 1


def npz_files(files: Files, model, folder: Path) -> None:
    names = bvlc.bvlc_names(find_network("googlenet"))
    arrays = {names[path]: array for path, array in values(model).items()}
    np.savez(folder / "base.npz", **arrays)
    whole = (folder / "base.npz").read_bytes()
    files.damaged(".npz", "x.npz", whole)
    bias = "loss3/classifier/bias"

    def npy(array) -> bytes:
        content = io.BytesIO()
        np.lib.format.write_array(content, np.asarray(array))
        return content.getvalue()

    members = [(f"{name}.npy", npy(array)) for name, array in arrays.items()]

    def write(
        what: str, content: bytes, name: str = f"{bias}.npy", method: int = zipfile.ZIP_STORED
    ) -> None:
        kept = [(key, data) for key, data in members if key != f"{bias}.npy"]
        files.put(".npz", what, "x.npz", zipped([*kept, (name, content)], method))

    def claimed(shape: str, dtype: str = "<f4") -> bytes:
        text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
        header = text.ljust(117).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(20)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(folder / "ran"),)

    write("as it was saved", npy(arrays[bias]))
    write("compressed", npy(arrays[bias]), method=zipfile.ZIP_DEFLATED)
    write("a member that is no .npy", b"hello")
    write("an empty member", b"")
    write("a member without the ending", npy(arrays[bias]), name=bias)
    write("a member named ../", npy(arrays[bias]), name="../../evil.npy")
    write("not a number", npy(np.full(5, np.nan, "f4")))
    write("a scalar for a bias", npy(np.float32(1)))
    write("integers", npy(np.zeros(5, "i8")))
    write("strings", npy(np.array(["a"] * 5)))
    write("a bad string type", claimed("(5,)", "<U-3"))
    write("a type that is code", claimed("(5,)", "__import__('os')"))
    write("records", npy(np.zeros(5, [("a", "f4")])))
    write("a shape of 2^40", claimed(f"({2**40},)"))
    write("a shape of 2^62 by 2^62", claimed(f"({HUGE}, {HUGE})"))
    write("a negative side", claimed("(-5,)"))
    write("a shape that does not fit its data", claimed("(6,)"))
    write("a shape that is no tuple", claimed("'abc'"))
    write(
        "a header of 60,000 letters",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 60_000) + b"(" * 60_000,
    )
    write("an unknown version", b"\x93NUMPY\x09\x00" + npy(arrays[bias])[8:])
    with io.BytesIO() as content:
        np.lib.format.write_array(content, np.array([Trap()], object), allow_pickle=True)
        write("objects, which run code", content.getvalue())
    files.put(
        ".npz",
        "a shape of TiB in 218 bytes",
        "x.npz",
        zipped([(f"{bias}.npy", claimed(f"({2**42},)"))]),
    )
    files.put(".npz", "an encrypted member", "x.npz", patched_zip(whole, flags=1))
    files.put(".npz", "an unknown method", "x.npz", patched_zip(whole, method=99))
    files.put(".npz", "a bomb of 1 GiB", "x.npz", zip_bomb(f"{bias}.npy", 2**30, lie=False))
    files.put(".npz", "a member twice", "x.npz", zipped([*members, members[0]]))
    files.put(".npz", "an .npy alone", "x.npz", npy(arrays[bias]))
    at = whole.index(arrays["conv1/7x7_s2/kernel"].tobytes()) + 6
    files.put(".npz", "a bit of a weight flipped", "x.npz", flipped(whole, at))


def caffe_files(files: Files, model, folder: Path) -> None:
    names = bvlc.bvlc_names(find_network("googlenet"))
    arrays = {names[path]: array for path, array in values(model).items()}
    layers = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in arrays))

    def layer(name: str, **changed) -> bytes:
        kernel = arrays[f"{name}/kernel"]
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        blobs = {"kernel": kernel, "bias": arrays[f"{name}/bias"]} | changed
        return caffe_file.layer(name, *blobs.values(), old=False)

    def net(last: bytes) -> bytes:
        return b"".join(map(layer, layers[:-1])) + last

    whole = net(layer(layers[-1]))
    files.damaged(".caffemodel", "x.caffemodel", whole)
    head = layers[-1]
    field = caffe_file.field

    def blob(data: bytes, *shape: int) -> bytes:
        dims = b"".join(map(tf_table.varint, shape))
        return field(7, field(7, field(1, dims)) + data)

    for what, last in (
        ("as it was saved", layer(head)),
        ("not a number", layer(head, bias=np.full(5, np.nan, "f4"))),
        ("a third blob", layer(head, third=np.zeros(3, "f4"))),
        ("a layer twice", layer(head) * 2),
        ("a scalar kernel", layer(head, kernel=np.float32(1).reshape(1))),
        (
            "a shape of 2^62",
            field(100, field(1, head.encode()) + blob(field(5, bytes(20)), HUGE, HUGE)),
        ),
        (
            "a shape that does not fit its data",
            field(100, field(1, head.encode()) + blob(field(5, bytes(20)), 6)),
        ),
        (
            "a negative side",
            field(100, field(1, head.encode()) + blob(field(5, bytes(20)), 2**64 - 5)),
        ),
        ("data of 3 bytes", field(100, field(1, head.encode()) + blob(field(5, bytes(3)), 1))),
        ("a name that is no text", field(100, field(1, b"\xff\xfe") + blob(field(5, bytes(4)), 1))),
        (
            "a field that is longer than the file",
            tf_table.varint(100 << 3 | 2) + tf_table.varint(2**40),
        ),
        ("messages nested 10,000 deep", nested(10_000)),
    ):
        files.put(".caffemodel", what, "x.caffemodel", net(last))
    with open(files.path(".caffemodel", "a sparse file of 100 GiB", "x.caffemodel"), "wb") as file:
        file.truncate(100 * 2**30)


def graph_files(files: Files, model, folder: Path) -> None:
    """The frozen graph of 2015, of which no undamaged one is at hand: only what is refused."""
    field, number = caffe_file.field, tf_table.number

    def const(name: bytes, shape: tuple[int, ...], content: bytes) -> bytes:
        dims = b"".join(field(2, number(1, side)) for side in shape)
        tensor = number(1, 1) + field(2, dims) + field(4, content)
        entry = field(1, b"value") + field(2, field(8, tensor))
        return field(1, field(1, name) + field(2, b"Const") + field(5, entry))

    whole = b"".join(const(f"x{n}".encode(), (3,), bytes(12)) for n in range(5))
    files.damaged(".pb", "x.pb", whole)
    files.whole.pop()
    for what, node in (
        ("arrays of another network", b""),
        ("a shape of 2^62", const(b"y", (HUGE, HUGE), bytes(12))),
        ("a negative side", const(b"y", (-3,), bytes(12))),
        ("a shape that does not fit its data", const(b"y", (4,), bytes(12))),
        ("a node twice", const(b"x0", (3,), bytes(12))),
        ("a name that is no text", const(b"\xff\xfe", (3,), bytes(12))),
        ("messages nested 10,000 deep", field(1, nested(10_000))),
    ):
        files.put(".pb", what, "x.pb", whole + node)
    with open(files.path(".pb", "a sparse file of 100 GiB", "x.pb"), "wb") as file:
        file.truncate(100 * 2**30)


def nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = caffe_file.field(100, content)
    return content


def checkpoint_files(files: Files, model, folder: Path) -> None:
    """slim's: in several files, and in one."""
    import tensorflow as tf

    names = slim.slim_names(find_network("inception_v1"))
    arrays = {
        names[path]: array
        for path, array in sorted(values(model).items(), key=lambda p: names[p[0]])
    }
    bundle, single = folder / "v1.ckpt", folder / "single.ckpt"
    tf.raw_ops.SaveV2(
        prefix=str(bundle),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )
    tf.raw_ops.Save(filename=str(single), tensor_names=list(arrays), data=list(arrays.values()))
    files.damaged("checkpoint in one file", "x.ckpt", single.read_bytes())
    index, data = (Path(f"{bundle}.{end}").read_bytes() for end in ("index", "data-00000-of-00001"))
    files.whole.append(("checkpoint in several files", bundle))
    form, shard = "checkpoint in several files", "x.ckpt.data-00000-of-00001"

    def put(what: str, index: bytes, data: bytes | None = data) -> None:
        path = files.path(form, what, "x.ckpt")
        Path(f"{path}.index").write_bytes(index)
        if data is not None:
            (path.parent / shard).write_bytes(data)

    put("as it was saved", index)
    for what, place in (
        ("the index", 0),
        ("the middle of the index", len(index) // 2),
        ("the index's end", len(index) - 20),
    ):
        put(f"a bit flipped in {what}", flipped(index, place))
    for part in (0, 0.5, 0.99):
        put(f"an index cut at {part:.0%}", index[: int(part * len(index))])
        put(f"data cut at {part:.0%}", index, data[: int(part * len(data))])
    put("a bit flipped in the data", index, flipped(data, len(data) // 2))
    put("no data", index, None)
    put("an index that is a Git LFS pointer", LFS)
    put("data that are a Git LFS pointer", index, LFS)
    path = files.path(form, "data that are a named pipe", "x.ckpt")
    Path(f"{path}.index").write_bytes(index)
    os.mkfifo(path.parent / shard)
    bias = "InceptionV1/Logits/Conv2d_0c_1x1/biases"
    entries = dict(tf_table.read(index))
    for what, change in (
        ("a shape of 2^62 by 2^62", {"shape": (HUGE, HUGE)}),
        ("a negative side", {"shape": (-1, 4)}),
        ("a shape of 300 sides", {"shape": (1,) * 300}),
        ("a shape that does not fit its data", {"shape": (6,)}),
        ("a shape of 2^40", {"shape": (2**40,), "size": 2**42}),
        ("a scalar for a bias", {"shape": (), "size": 4}),
        ("an unknown type", {"dtype": 7777}),
        ("strings", {"dtype": 7}),
        ("data beyond the end", {"offset": 2**40}),
        ("data before the start", {"offset": 2**63 + 5}),
        ("a shard that is not there", {"shard": 5}),
        ("a variable in slices", {"more": caffe_file.field(7, b"")}),
        ("an entry that is no message", None),
    ):
        entry = (
            b"\xff" * 20
            if change is None
            else tf_table.entry(**{"shape": (5,), "size": 20} | change)
        )
        put(what, tf_table.table({**entries, bias.encode(): entry}))
    put("a header of 2^31 shards", tf_table.table({**entries, b"": tf_table.number(1, 2**31 - 1)}))
    put("no header", tf_table.table({k: v for k, v in entries.items() if k}))
    tf.raw_ops.SaveV2(
        prefix=str(files.path(form, "not a number", "x.ckpt")),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[
            np.full(5, np.nan, "f4") if name == bias else array for name, array in arrays.items()
        ],
    )


# What happens


def outcome(form: str, model, path: Path, expected: dict[str, np.ndarray], source: str) -> str:
    """The sentence of the error, or that and how the file loads."""
    try:
        if "settings" in form:  # which `load_weights` does not read
            open_classifier(str(path), "inception_v1")
        inception_tf.load_weights(model, path, source=source)
    except UserError as error:
        for name, array in values(model).items():
            assert np.array_equal(array, expected[name]), f"{path} was refused and changed {name}"
        code, sentence = explain_error(error, "convert")
        assert code == USER_MISTAKE
        assert "\n" not in sentence
        sentence = re.sub(r"at most [\d,]+", "at most N", sentence)  # by the network's size
        return sentence.replace(str(path), "FILE").replace(str(path.parent), "FOLDER")
    except Exception as error:
        return f"{FAULT}{type(error).__name__}: {error}"
    equal = all(np.array_equal(array, expected[name]) for name, array in values(model).items())
    if not equal:
        for variable in model.weights:
            variable.assign(expected[variable.path])
    return LOADS if equal else SILENT


# Flips of one bit anywhere.  Of a zip archive the checksums cover the members, not the names of files that are
# not read; TensorFlow's cover its blocks and tensors.
CHECKED = (".keras", ".npz", ".pth", "checkpoint in one file", "checkpoint in several files")


def flip(count: int, form: str, model, path: Path, expected: dict, source: str) -> str:
    """What `count` flips of one bit, at places by rule, lead to: a row of the table."""
    data = Path(f"{path}.data-00000-of-00001")
    target = data if data.exists() else path
    whole, found = target.read_bytes(), []
    for place in (ramps.uniform(form, (count,)) + 1) / 2 * (len(whole) - 1):
        target.write_bytes(flipped(whole, int(place), bit=int(place) % 8))
        found.append(outcome(form, model, path, expected, source))
    target.write_bytes(whole)
    faults = [one for one in found if one.startswith(FAULT)]
    assert not faults, faults
    same, other = found.count(LOADS), found.count(SILENT)
    assert form not in CHECKED or not other, f"{form}: {other} flips passed with other numbers"
    checked = "yes" if form in CHECKED else "no"
    return f"| {form} | {checked} | {count} | {count - same - other} | {same} | {other} |"


def open_models():
    shorten_all(["inception_v1", "googlenet", "inception_v3"], least)
    return small("inception_v1"), small("googlenet"), small("inception_v3")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--pickles", action="store_true", help="torch's files, with torch")
    parser.add_argument("--flips", type=int, default=FLIPS, help="bits to flip in each format")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        rows, flip_rows = run(options.pickles, options.flips, Path(folder))
    faults = [row for row in rows if row[2].startswith(FAULT)]
    assert not faults or options.write, faults
    part = "pickles" if options.pickles else "files"
    tables = {
        part: (
            "format | what is wrong | what happens",
            [f"| {form} | {what} | {text.replace('|', '/')} |" for form, what, text in rows],
        ),
        f"flips of {part}": (
            "format | has checksums | bits flipped | refused | loads as it was | loads with another number",
            flip_rows,
        ),
    }
    page = PAGE.read_text(encoding="utf-8")
    different = set()
    if options.flips != FLIPS:
        tables.pop(f"flips of {part}")
    for name, (titles, lines) in tables.items():
        start, end = (f"<!-- {word} of {name} -->\n" for word in ("start", "end"))
        before, rest = page.split(start)
        old, after = rest.split(end)
        header = [f"| {titles} |", "|" + " --- |" * (titles.count("|") + 1)]
        new = "\n".join([*header, *lines, ""])
        page = before + start + new + end + after
        if (
            name == part
        ):  # places of flips, and so their counts, move with every change of a network
            different |= set(old.splitlines()) ^ set(new.splitlines())
    if options.write:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    print("\n".join(sorted(different)))
    print(f"{len(rows)} files, {len(different)} lines differ from {PAGE.name}")
    return bool(different)


def run(
    pickles: bool, flip_count: int, folder: Path
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Format, what is wrong and outcome of every file, and the rows of the flips."""
    v1, googlenet, v3 = open_models()
    groups = [
        (hdf5_files, v1, "auto"), (keras_files, v1, "auto"), (keras2_files, v3, "auto"),
        (safetensors_files, v1, "auto"), (npz_files, googlenet, "auto"), (caffe_files, googlenet, "auto"),
        (checkpoint_files, v1, "slim"), (graph_files, v3, "auto"),
    ]  # fmt: skip
    if pickles:
        groups = [(pickle_files, v1, "auto")]
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    rows, flip_rows = [], []
    for make, model, source in groups:
        inside = folder / make.__name__
        (inside / "files").mkdir(parents=True)
        files = Files(inside / "files")
        make(files, model, inside)
        expected = values(model)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for form, what, path in files.made:
            start = time.process_time()
            rows.append((form, what, outcome(form, model, path, expected, source)))
            took = time.process_time() - start
            assert took < SECONDS, f"{form}, {what}: {took:.1f} s"
        for form, path in files.whole:
            flip_rows.append(flip(flip_count, form, model, path, expected, source))
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert not (inside / "ran").exists(), "code of a file has run"
    return rows, flip_rows


if __name__ == "__main__":
    sys.exit(main())
