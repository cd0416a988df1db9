# SPDX-License-Identifier: Apache-2.0
"""One run of a SavedModel by the C++ loader, with the requests that all checks of its outputs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inception_tf.export import sample_requests
from inception_tf.verify import probe_images, subprocess_loader
from inception_tf.verify.subprocess_loader import Call, CallResult

__all__ = ["BATCHES", "FEW", "Pairs", "SampleRun", "run_sample_requests"]

BATCHES = (1, 3)
FEW = 4  # probes for `classify` and for the Keras model: of JPEG, upright and turned, and of PNG

Pairs = tuple[tuple[Call, CallResult], ...]


@dataclass(frozen=True)
class SampleRun:
    """Requests and their results, by the checks that need them."""

    plain: Pairs  # good images, every signature
    clean: Pairs  # five good images
    damaged: Pairs  # the same with the middle three replaced by bad ones
    warm: Pairs  # the requests of the warm-up log
    probes: Pairs = ()  # images of every kind, good and bad; then arrays
    peak: int = 0  # peak memory of the process, bytes


def run_sample_requests(
    folder: Path, warm: Sequence[Call], probes: Sequence[bytes] = (), *, features: bool = False
) -> SampleRun:
    """Runs all sample requests in one child process.

    Args:
        folder: The SavedModel, a version folder.
        warm: The requests of the warm-up log.
        probes: What `probe_images.probe_images` returned; none where the outputs are unknown.
        features: It has the signature of a feature vector.

    Returns:
        All requests with their results.

    Raises:
        LoaderError: The model does not load.
    """
    good = [sample_requests.encode_jpeg(image) for image in sample_requests.sample_images(5)]
    bad = [good[0], b"", b"not an image", good[0][: len(good[0]) // 2], good[-1]]
    groups = (
        [
            call
            for batch in BATCHES
            for call in sample_requests.sample_calls(batch, features=features)
        ],
        sample_requests.sample_encoded_calls(good, features=features),
        sample_requests.sample_encoded_calls(bad, features=features),
        warm,
        _probe_calls(probes, features) if probes else (),
    )
    loaded = subprocess_loader.run_saved_model(folder, [call for group in groups for call in group])
    results = iter(loaded.results)
    plain, clean, damaged, warmed, probed = (
        tuple((call, next(results)) for call in group) for group in groups
    )
    return SampleRun(plain, clean, damaged, warmed, probed, loaded.peak)


def _probe_calls(probes: Sequence[bytes], features: bool) -> tuple[Call, ...]:
    """`serving_default` of all, the other signatures of encoded images of a few, `image_tensor` of arrays."""
    whole, *_ = sample_requests.sample_encoded_calls(probes)
    _, *few = sample_requests.sample_encoded_calls(
        [*probes[:FEW], *probes[-FEW:]], features=features
    )
    arrays = (Call("image_tensor", {"images": one}) for one in probe_images.probe_arrays())
    return whole, *few, *arrays
