# SPDX-License-Identifier: Apache-2.0
"""How each tool computes FID and its relatives, and every difference between them in words."""

from __future__ import annotations

from dataclasses import dataclass

from inception_tf.errors import unknown

__all__ = [
    "CLEAN_FID",
    "CONVENTIONS",
    "PYTORCH_FID",
    "TORCHMETRICS",
    "TORCH_FIDELITY",
    "Convention",
    "InceptionScoreRule",
    "KernelRule",
    "NeighborRule",
    "Resize",
    "differences",
    "find_convention",
]

TORCH_FIDELITY, PYTORCH_FID = "torch-fidelity", "pytorch-fid"
CLEAN_FID, TORCHMETRICS = "clean-fid", "torchmetrics"


@dataclass(frozen=True)
class Resize:
    """How an image becomes 299 pixels high and wide; the whole image, whatever its aspect ratio."""

    library: str  # tensorflow1, torch or pillow: whose arithmetic
    interpolation: str  # bilinear or bicubic
    antialias: bool
    half_pixel_centers: bool
    unit_range: bool  # pixels are divided by 255 before it
    words: str


@dataclass(frozen=True)
class InceptionScoreRule:
    """How the inception score is computed."""

    splits: int
    draws: str  # numpy: RandomState.permutation; torch: torch.randperm
    sizes: str  # even: from i N / splits; ceiling: torch.chunk, whose last splits are smaller or missing
    ddof: int  # of the standard deviation over the splits
    bias: bool  # the classifier's bias is added to the logits


@dataclass(frozen=True)
class KernelRule:
    """How KID is computed: the polynomial kernel (gamma x·y + coef)^degree, unbiased, over random subsets."""

    subsets: int
    subset_size: int
    shrinks: bool  # fewer images than subset_size: all are taken; otherwise refused
    draws: str  # numpy: RandomState.choice; torch: torch.randperm
    second_first: bool  # the subset of the second set is drawn first
    degree: int = 3
    coef: float = 1.0
    gamma: float | None = None  # None: 1 / features


@dataclass(frozen=True)
class NeighborRule:
    """How precision and recall are computed."""

    neighbors: int  # the k-th nearest, the point itself not counted
    first_is_generated: bool


@dataclass(frozen=True)
class Convention:
    """What one tool does, of the version that it was compared with."""

    name: str
    version: str
    resize: Resize
    scale: str  # the arithmetic from resized pixels to the network's input
    form: str  # of the Fréchet distance: one of `frechet.FORMS`
    mean: str  # how the mean is summed
    singular: str  # what the tool does with a singular covariance
    count: str  # N: how many images the tool asks for, and which files it takes
    inception_score: InceptionScoreRule | None  # None: the tool has none
    kernel: KernelRule | None
    neighbors: NeighborRule | None


_TF1 = Resize(
    "tensorflow1",
    "bilinear",
    antialias=False,
    half_pixel_centers=False,
    unit_range=False,
    words="TensorFlow 1's bilinear: pixel centers at the upper left corner, no antialiasing",
)
_TORCH = Resize(
    "torch",
    "bilinear",
    antialias=False,
    half_pixel_centers=True,
    unit_range=True,
    words="torch's bilinear of values in 0..1: half-pixel centers, no antialiasing",
)
_TORCH_ANTIALIASED = Resize(
    "torch",
    "bilinear",
    antialias=True,
    half_pixel_centers=True,
    unit_range=False,
    words="torch's bilinear: half-pixel centers, with antialiasing",
)
_PILLOW = Resize(
    "pillow",
    "bicubic",
    antialias=True,
    half_pixel_centers=True,
    unit_range=False,
    words="Pillow's bicubic of each channel in float32, with antialiasing, clipped to 0..255",
)
# What eigenvalues do is the same for both tools that have them.
_EIGENVALUES = "computed all the same: rounding makes tiny eigenvalues, and their roots are added"
_SQRTM = (
    "computed by SciPy's sqrtm, with 1e-6 on both diagonals where it is not finite, refused where it is not"
    " real; raises TypeError with SciPy 1.18, which has no sqrtm(disp=)"
)

CONVENTIONS = {
    one.name: one
    for one in (
        Convention(
            name=TORCH_FIDELITY,
            version="0.4.0",
            resize=_TF1,
            scale="(x - 128) / 128",
            form="eigenvalues",
            mean="float32, image by image, without its option for float64 having an effect",
            singular=_EIGENVALUES,
            count="any N; .png, .jpg, .jpeg of one folder, in the order of their real paths",
            inception_score=InceptionScoreRule(
                splits=10, draws="numpy", sizes="even", ddof=0, bias=False
            ),
            kernel=KernelRule(100, 1000, shrinks=False, draws="numpy", second_first=False),
            neighbors=NeighborRule(neighbors=3, first_is_generated=True),
        ),
        Convention(
            name=PYTORCH_FID,
            version="0.3.0",
            resize=_TORCH,
            scale="2 x - 1 of x in 0..1, that is (x - 127.5) / 127.5",
            form="sqrtm",
            mean="float64",
            singular=_SQRTM,
            count="any N; nine endings in lower case of one folder, all images of one size",
            inception_score=None,
            kernel=None,
            neighbors=None,
        ),
        Convention(
            name=CLEAN_FID,
            version="0.1.35",
            resize=_PILLOW,
            scale="(x - 128) / 128",
            form="sqrtm",
            mean="float32, image by image",
            singular=_SQRTM,
            count="any N; ten endings (three in capitals too), with all subfolders",
            inception_score=None,
            kernel=KernelRule(100, 1000, shrinks=True, draws="numpy", second_first=True),
            neighbors=None,
        ),
        Convention(
            name=TORCHMETRICS,
            version="1.9.0",
            resize=_TORCH_ANTIALIASED,
            scale="(x - 128) / 128",
            form="eigenvalues",
            mean="float64 sums of values and of their products",
            singular=_EIGENVALUES,
            count="at least 2; takes tensors, so that decoding and order are the caller's",
            inception_score=InceptionScoreRule(
                splits=10, draws="torch", sizes="ceiling", ddof=1, bias=False
            ),
            kernel=KernelRule(100, 1000, shrinks=False, draws="torch", second_first=False),
            neighbors=None,
        ),
    )
}


def find_convention(name: str) -> Convention:
    """The convention of a tool.

    Args:
        name: A key of `CONVENTIONS`.

    Returns:
        The convention.

    Raises:
        UserError: There is no such tool.
    """
    if name not in CONVENTIONS:
        raise unknown("tool", name, CONVENTIONS)
    return CONVENTIONS[name]


def differences(first: Convention, second: Convention) -> tuple[str, ...]:
    """What makes the numbers of two tools differ, in the order of its effect.

    Args:
        first: One convention.
        second: The other.

    Returns:
        One line per difference, "resize: ...; ..."; none for a tool and itself.
    """
    rows = zip(_described(first), _described(second), strict=True)
    return tuple(f"{name}: {one}; {two}" for (name, one), (_, two) in rows if one != two)


def _described(convention: Convention) -> list[tuple[str, str]]:
    return [
        ("resize", convention.resize.words),
        ("scale", convention.scale),
        ("images", convention.count),
        ("mean", convention.mean),
        ("root of the covariances", convention.form),
        ("singular covariance", convention.singular),
        ("inception score", _described_score(convention.inception_score)),
        ("KID", _described_kernel(convention.kernel)),
        ("precision and recall", _described_neighbors(convention.neighbors)),
    ]


def _described_score(rule: InceptionScoreRule | None) -> str:
    if rule is None:
        return "none"
    order = "RandomState(2020)" if rule.draws == "numpy" else "torch.randperm without a seed"
    sizes = "equal splits" if rule.sizes == "even" else "torch.chunk's splits"
    return (
        f"{rule.splits} {sizes} in the order of {order}, {'with' if rule.bias else 'without'} the bias,"
        f" deviation with N - {rule.ddof}"
    )


def _described_kernel(rule: KernelRule | None) -> str:
    if rule is None:
        return "none"
    draws = {
        ("numpy", False): "drawn by RandomState(2020)",
        ("numpy", True): "drawn by NumPy without a seed, the second set's first",
        ("torch", False): "drawn by torch.randperm without a seed",
    }[rule.draws, rule.second_first]
    fewer = "all images where there are fewer" if rule.shrinks else "refused where there are fewer"
    return f"{rule.subsets} subsets of {rule.subset_size:,} ({fewer}), {draws}"


def _described_neighbors(rule: NeighborRule | None) -> str:
    if rule is None:
        return "none"
    which = "first" if rule.first_is_generated else "second"
    return (
        f"k = {rule.neighbors}, the {which} set is the generated one (exchanged before 0.4.0); by default of"
        " VGG16's features, here of the tap"
    )
