# SPDX-License-Identifier: Apache-2.0
"""A network's layer table in the columns of the GoogLeNet paper's Table 1 (arXiv 1409.4842)."""

from __future__ import annotations

from inception_tf.arch import spec
from inception_tf.arch.spec import (
    SAME,
    Branch,
    Conv,
    Drop,
    Facts,
    Fork,
    LocalNorm,
    Network,
    Pool,
    Residual,
    Separable,
    Step,
)

__all__ = ["summary"]


def summary(network: Network, size: int | None = None) -> list[dict]:
    """One row a stage: type, name, patch/stride, output size, depth, branch widths, params, ops.

    Inception modules of Table 1's form have its six width columns (`#1x1`, `#3x3 reduce`, ...), all
    others one column `branches`.  A 1x1 convolution that only prepares the next one shares its row,
    as in Table 1.  ops are multiply-adds for one image.
    """
    facts = spec.facts(network, size)
    rows, reduce = [], None
    steps = list(network.body)
    for index, (name, step) in enumerate(steps):
        following = steps[index + 1][1] if index + 1 < len(steps) else None
        own = [row for row in facts if row.place.endpoint == name]
        if _prepares(step, following):
            reduce = (step, own)
            continue
        if isinstance(step, LocalNorm):
            # Table 1 has no row for it: it changes no size and has no weights.
            rows[-1]["type"] += ", local norm"
            continue
        row = _row(name, step, own)
        if reduce:
            row = _merged(row, reduce)
            reduce = None
        rows.append(row)
    return rows + _head(facts, network)


def _row(name: str, step: Step, own: list[Facts]) -> dict:
    height, width = own[-1].output[:2]
    return {
        "type": _type(step),
        "name": name,
        "patch/stride": _patch(step),
        "output size": f"{height}x{width}x{_channels(step, own)}",
        "depth": spec.depth_of(step),
        **(_widths(step) if isinstance(step, Fork | Residual) else {}),
        "params": sum(row.params for row in own),
        "ops": sum(row.multiply_adds for row in own),
    }


def _merged(row: dict, reduce: tuple[Conv, list[Facts]]) -> dict:
    step, own = reduce
    window = row["patch/stride"].split("/")[0]
    filters = int(row["output size"].split("x")[-1])
    return {
        **row,
        "depth": row["depth"] + 1,
        f"#{window} reduce": step.filters,
        f"#{window}": filters,
        "params": row["params"] + own[0].params,
        "ops": row["ops"] + own[0].multiply_adds,
    }


def _prepares(step: Step, following: Step | None) -> bool:
    """Is this a 1x1 convolution whose only purpose is to narrow the next one's input?"""
    return (
        isinstance(step, Conv)
        and isinstance(following, Conv)
        and step.window == (1, 1)
        and following.window != (1, 1)
        and following.padding == SAME
    )


def _head(facts: tuple[Facts, ...], network: Network) -> list[dict]:
    *body, logits = facts
    hidden = [body.pop()] if network.hidden_batch_norm else []
    height, width = body[-1].output[:2]
    channels = logits.multiply_adds // logits.output[2]
    pooled, scores = f"1x1x{channels}", f"1x1x{logits.output[2]}"
    plain = {"patch/stride": "", "depth": 0, "params": 0, "ops": 0}
    return [
        {
            **plain,
            "type": "avg pool",
            "name": "global_pool",
            "patch/stride": f"{height}x{width}/1",
            "output size": pooled,
        },
        *(
            {
                **plain,
                "type": "batch norm",
                "name": row.place.name,
                "output size": pooled,
                "params": row.params,
            }
            for row in hidden
        ),
        {
            **plain,
            "type": f"dropout ({network.dropout:.0%})",
            "name": "PreLogits",
            "output size": pooled,
        },
        {
            **plain,
            "type": "linear",
            "name": "Logits",
            "output size": scores,
            "depth": 1,
            "params": logits.params,
            "ops": logits.multiply_adds,
        },
        {**plain, "type": "softmax", "name": "Predictions", "output size": scores},
    ]


def _type(step: Step) -> str:
    words = {
        Fork: "inception",
        Residual: "inception-resnet",
        Conv: "convolution",
        Separable: "separable conv",
    }
    if isinstance(step, Pool):
        return f"{step.kind} pool"
    if isinstance(step, Drop):
        return f"dropout ({step.rate:.0%})"
    return words[type(step)]


def _patch(step: Step) -> str:
    if isinstance(step, Fork | Residual | Drop):
        return ""
    return f"{step.window[0]}x{step.window[1]}/{step.stride}"


def _channels(step: Step, own: list[Facts]) -> int:
    """Channels of what a step gives; a residual's last row, `up`, has them already."""
    if not isinstance(step, Fork):
        return own[-1].output[2]
    return sum(_end(own, b, branch) for b, branch in enumerate(step.branches))


def _end(own: list[Facts], b: int, branch: Branch, prefix: tuple[int, ...] = ()) -> int:
    """Channels at the end of one branch; a fork at its end adds its own branches up."""
    path = (*prefix, b, len(branch) - 1)
    last = branch[-1]
    if isinstance(last, Fork):
        return sum(_end(own, inner, part, path) for inner, part in enumerate(last.branches))
    return next(row.output[2] for row in own if row.place.path == path)


def _widths(step: Fork | Residual) -> dict:
    if _is_table_1(step):
        first, second, third, pooled = step.branches
        wide = third[1].window[0]
        # slim's V1 has 3x3 where Table 1 has 5x5: a second pair of 3x3 columns.
        again = " (2nd)" if wide == second[1].window[0] else ""
        return {
            "#1x1": first[0].filters,
            "#3x3 reduce": second[0].filters,
            "#3x3": second[1].filters,
            f"#{wide}x{wide} reduce{again}": third[0].filters,
            f"#{wide}x{wide}{again}": third[1].filters,
            "pool proj": pooled[1].filters,
        }
    return {"branches": "; ".join(map(_describe, step.branches))}


def _is_table_1(step: Fork | Residual) -> bool:
    if isinstance(step, Residual):
        return False
    # 1x1; 1x1 before 3x3; 1x1 before 5x5; pooling before 1x1.
    forms = [[type(part) for part in branch] for branch in step.branches]
    return forms == [[Conv], [Conv, Conv], [Conv, Conv], [Pool, Conv]]


def _describe(branch: Branch) -> str:
    return " > ".join(map(_describe_step, branch))


def _describe_step(step: Step) -> str:
    if isinstance(step, Fork):
        return "(" + " | ".join(map(_describe, step.branches)) + ")"
    window = f"{step.window[0]}x{step.window[1]}" + (f"/{step.stride}" if step.stride > 1 else "")
    return f"{window} {step.filters}" if isinstance(step, Conv) else f"{step.kind} {window}"
