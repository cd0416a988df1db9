# SPDX-License-Identifier: Apache-2.0
"""A network's layer table in the columns of the GoogLeNet paper's Table 1 (arXiv 1409.4842)."""

from __future__ import annotations

from typing import Any

from inception_tf.arch import counting, spec
from inception_tf.arch.counting import LayerCost
from inception_tf.arch.spec import (
    SAME,
    AdaptivePool,
    Branch,
    Conv,
    Dropout,
    Fork,
    LocalNorm,
    Network,
    Pool,
    Residual,
    Separable,
    Step,
)

__all__ = ["auxiliary_rows", "summary"]

Row = dict[str, Any]  # column → text or number
PLAIN: Row = {"patch/stride": "", "depth": 0, "params": 0, "ops": 0}  # of a row without weights


def summary(network: Network, size: int | None = None) -> list[Row]:
    """The rows of a network's layer table, one per stage.

    Inception modules of Table 1's form have its six width columns (`#1x1`, `#3x3 reduce`, ...), all
    others one column `branches`.  A 1x1 convolution that only reduces the input of the next one shares
    its row, as in Table 1.

    Args:
        network: The network.
        size: int. Input height and width in pixels; None: the published size.

    Returns:
        Rows with the keys type, name, patch/stride, output size, depth, the width columns, params and ops
        (multiply-adds for one image).
    """
    costs = counting.layer_costs(network, size)
    rows: list[Row] = []
    reduction: tuple[Conv, list[LayerCost]] | None = None
    steps = list(network.backbone)
    for index, (name, step) in enumerate(steps):
        following = steps[index + 1][1] if index + 1 < len(steps) else None
        layers = [row for row in costs if row.layer.endpoint == name]
        if isinstance(step, Conv) and _is_reduction(step, following):
            reduction = (step, layers)
            continue
        if isinstance(step, LocalNorm):
            # Table 1 has no row for it: it changes no size and has no weights.
            rows[-1]["type"] += ", local norm"
            continue
        row = _row(name, step, layers)
        if reduction:
            row = _merged(row, *reduction)
            reduction = None
        rows.append(row)
    return rows + _head(costs, network)


def auxiliary_rows(network: Network, size: int | None = None) -> list[Row]:
    """The rows of a network's auxiliary classifiers, which are there in training only.

    Args:
        network: The network.
        size: int. Input height and width in pixels; None: the published size.

    Returns:
        Rows as those of `summary`, their types with "auxiliary" before them; none for a network without.
    """
    costs = counting.layer_costs(network, size, aux_logits=True)
    found = {row.layer.name: row for row in costs}
    rows: list[Row] = []
    for auxiliary in network.auxiliaries:
        for name, _ in auxiliary.steps:
            # The counted step, whose window is cut where the feature map is smaller.
            layer = found[f"{auxiliary.name}_{name}"]
            rows.append(_row(layer.layer.name, layer.layer.step, [layer]))
        if auxiliary.dropout:
            kind = f"dropout ({auxiliary.dropout:.0%})"
            rows.append(
                PLAIN
                | {"type": kind, "name": f"{auxiliary.name}_dropout"}
                | {"output size": rows[-1]["output size"]}
            )
        rows.append(_linear(auxiliary.name, found[auxiliary.name]))
    return [row | {"type": f"auxiliary {row['type']}"} for row in rows]


def _row(name: str, step: Step, layers: list[LayerCost]) -> Row:
    height, width = layers[-1].output[:2]
    return {
        "type": _type(step),
        "name": name,
        "patch/stride": _patch(step),
        "output size": f"{height}x{width}x{_channels(step, layers)}",
        "depth": spec.depth_of(step),
        **(_widths(step) if isinstance(step, Fork | Residual) else {}),
        "params": sum(row.params for row in layers),
        "ops": sum(row.multiply_adds for row in layers),
    }


def _merged(row: Row, step: Conv, layers: list[LayerCost]) -> Row:
    """A convolution's row, with the 1x1 reduction before it."""
    window = row["patch/stride"].split("/")[0]
    filters = int(row["output size"].split("x")[-1])
    return {
        **row,
        "depth": row["depth"] + 1,
        f"#{window} reduce": step.filters,
        f"#{window}": filters,
        "params": row["params"] + layers[0].params,
        "ops": row["ops"] + layers[0].multiply_adds,
    }


def _is_reduction(step: Conv, following: Step | None) -> bool:
    """Whether this is a 1x1 convolution that only reduces the channels of the next one's input."""
    return (
        isinstance(following, Conv)
        and step.window == (1, 1)
        and following.window != (1, 1)
        and following.padding == SAME
    )


def _head(costs: tuple[LayerCost, ...], network: Network) -> list[Row]:
    *backbone, logits = costs
    hidden = [backbone.pop()] if network.hidden_batch_norm else []
    height, width = backbone[-1].output[:2]
    channels = logits.multiply_adds // logits.output[2]
    pooled, scores = f"1x1x{channels}", f"1x1x{logits.output[2]}"
    return [
        {
            **PLAIN,
            "type": "avg pool",
            "name": "global_pool",
            "patch/stride": f"{height}x{width}/1",
            "output size": pooled,
        },
        *(
            {
                **PLAIN,
                "type": "batch norm",
                "name": row.layer.name,
                "output size": pooled,
                "params": row.params,
            }
            for row in hidden
        ),
        {
            **PLAIN,
            "type": f"dropout ({network.dropout:.0%})",
            "name": "PreLogits",
            "output size": pooled,
        },
        _linear("Logits", logits),
        {**PLAIN, "type": "softmax", "name": "Predictions", "output size": scores},
    ]


def _linear(name: str, logits: LayerCost) -> Row:
    return PLAIN | {
        "type": "linear",
        "name": name,
        "output size": f"1x1x{logits.output[2]}",
        "depth": 1,
        "params": logits.params,
        "ops": logits.multiply_adds,
    }


def _type(step: Step) -> str:
    types: dict[type, str] = {
        Fork: "inception",
        Residual: "inception-resnet",
        Conv: "convolution",
        Separable: "separable conv",
    }
    if isinstance(step, Pool):
        return f"{step.kind} pool"
    if isinstance(step, AdaptivePool):
        return f"avg pool to {step.size}x{step.size}"
    if isinstance(step, Dropout):
        return f"dropout ({step.rate:.0%})"
    return types[type(step)]


def _patch(step: Step) -> str:
    if not isinstance(step, Conv | Separable | Pool):
        return ""
    return f"{step.window[0]}x{step.window[1]}/{step.stride}"


def _channels(step: Step, layers: list[LayerCost]) -> int:
    """Output channels of a step; the last row of a residual, `up`, has them already."""
    if not isinstance(step, Fork):
        return layers[-1].output[2]
    return sum(_end(layers, b, branch) for b, branch in enumerate(step.branches))


def _end(layers: list[LayerCost], b: int, branch: Branch, prefix: tuple[int, ...] = ()) -> int:
    """Output channels of one branch; if it ends in a fork, the sum over that fork's branches."""
    path = (*prefix, b, len(branch) - 1)
    last = branch[-1]
    if isinstance(last, Fork):
        return sum(_end(layers, inner, part, path) for inner, part in enumerate(last.branches))
    return next(row.output[2] for row in layers if row.layer.path == path)


def _widths(step: Fork | Residual) -> Row:
    match step:
        # Table 1's form: 1x1; 1x1 before 3x3; 1x1 before 5x5; pooling before 1x1.
        case Fork(
            (
                (Conv() as first,),
                (Conv() as reduce_3, Conv() as conv_3),
                (Conv() as reduce_5, Conv() as conv_5),
                (Pool(), Conv() as projection),
            )
        ):
            wide = conv_5.window[0]
            # slim's V1 has 3x3 where Table 1 has 5x5: a second pair of 3x3 columns.
            again = " (2nd)" if wide == conv_3.window[0] else ""
            return {
                "#1x1": first.filters,
                "#3x3 reduce": reduce_3.filters,
                "#3x3": conv_3.filters,
                f"#{wide}x{wide} reduce{again}": reduce_5.filters,
                f"#{wide}x{wide}{again}": conv_5.filters,
                "pool proj": projection.filters,
            }
    return {"branches": "; ".join(map(_describe, step.branches))}


def _describe(branch: Branch) -> str:
    return " > ".join(map(_describe_step, branch))


def _describe_step(step: Step) -> str:
    if isinstance(step, Fork):
        return "(" + " | ".join(map(_describe, step.branches)) + ")"
    if not isinstance(step, Conv | Pool):
        return _type(step)
    window = f"{step.window[0]}x{step.window[1]}" + (f"/{step.stride}" if step.stride > 1 else "")
    return f"{window} {step.filters}" if isinstance(step, Conv) else f"{step.kind} {window}"
