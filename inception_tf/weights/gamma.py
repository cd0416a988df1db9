# SPDX-License-Identifier: Apache-2.0
"""The gammas of batch normalizations, where a weights file has them and the model does not, or the reverse.

gamma * (w*x - mean) / s + beta equals ((gamma*w)*x - gamma*mean) / s + beta, so that a gamma can be folded into the
kernel and the moving mean.  With a batch's own statistics it cancels: the folded network is then another one.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np

from inception_tf.errors import UserError

__all__ = ["FOLDED", "GAMMA", "default_gammas", "fold_gammas", "foldable_gammas", "has_gammas"]

FOLDED = "gammas folded into the kernels"  # how a sentence says that training differs

GAMMA, BETA, MEAN = (
    "_bn/gamma",
    "_bn/beta",
    "_bn/moving_mean",
)  # how the paths end of what follows a convolution


def has_gammas(names: Mapping[str, str], arrays: Container[str]) -> bool:
    """Whether a file has gammas.

    Args:
        names: Our variable path → foreign name.
        arrays: Foreign names in the file.

    Returns:
        True also for a file that lacks some of them.
    """
    return any(path.endswith(GAMMA) and theirs in arrays for path, theirs in names.items())


def foldable_gammas(
    arrays: Mapping[str, np.ndarray], gammas: Mapping[str, np.ndarray]
) -> list[str]:
    """The gammas that can be folded into a model that has no variable for them.

    Args:
        arrays: Our variable path → array in TensorFlow's layout, for the variables of the model.
        gammas: Our variable path → array, for others.

    Returns:
        Paths in `gammas`.

    Raises:
        UserError: A gamma has another shape than the moving mean beside it, or some normalizations have none.
    """
    found = []
    for path, gamma in gammas.items():
        kernel, mean = _beside(path)
        if not path.endswith(GAMMA) or kernel not in arrays or mean not in arrays:
            continue
        if not gamma.shape == arrays[mean].shape == arrays[kernel].shape[-1:]:
            raise UserError(
                f"{path} has the shape {gamma.shape} in the file, its moving mean {arrays[mean].shape} and its kernel"
                f" {arrays[kernel].shape}; give a complete file of one network"
            )
        found.append(path)
    means = [path for path in arrays if path.endswith(MEAN)]
    lacking = [path for path in means if path.removesuffix(MEAN) + GAMMA not in gammas]
    if found and lacking:
        raise UserError(
            f"the file has gammas for {len(found)} of {len(means)} batch normalizations, and none for"
            f" {lacking[0].split('/')[0]}; give a complete file of one network"
        )
    return found


def fold_gammas(arrays: dict[str, np.ndarray], gammas: Mapping[str, np.ndarray]) -> str:
    """Fold gammas into the kernels and the moving means.

    Args:
        arrays: Our variable path → array; kernels and moving means are replaced.
        gammas: Our variable path → array, for those of `foldable_gammas`.

    Returns:
        A sentence for the report; empty without gammas.
    """
    for path, gamma in gammas.items():
        factor = gamma.astype(np.result_type(gamma.dtype, np.float32))
        for changed in _beside(path):
            if changed in arrays:
                arrays[changed] = arrays[changed] * factor
    if not gammas:
        return ""
    if all(np.all(gamma == 1) for gamma in gammas.values()):
        return f"{len(gammas)} gammas omitted, all of them 1"
    return f"{len(gammas)} {FOLDED}, which is exact in evaluation only: trained or recalibrated, this is another network"


def _beside(path: str) -> tuple[str, str]:
    """The paths of the kernel and the moving mean that a gamma is folded into."""
    layer = path.removesuffix(GAMMA)
    return f"{layer}_conv/kernel", f"{layer}{MEAN}"


def default_gammas(
    arrays: Container[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], str]:
    """Ones for the gammas of a model whose file has none at all, which gives the same network.

    Args:
        arrays: The paths of the model's variables for which the file has an array.
        shapes: The paths of all variables of the model, and their shapes.

    Returns:
        Variable path → ones, and a sentence for the report; nothing for a model without gammas, or a file with some.
    """
    gammas = [path for path in shapes if path.endswith(GAMMA)]
    if any(path in arrays for path in gammas):
        return {}, ""
    missing = [path for path in gammas if path.removesuffix(GAMMA) + BETA in arrays]
    if not missing:
        return {}, ""
    ones = {path: np.ones(shapes[path], np.float32) for path in missing}
    return ones, f"the file has no gammas: the model's {len(missing)} are 1"
