# SPDX-License-Identifier: Apache-2.0
"""The page of `accelerator.py`: figures checked against the peak that the card reached, then tables."""

from __future__ import annotations

from accelerator_parts.plan import PEERS

DOCUMENTS = 0.168  # seconds a batch: the documents' figure for V3, batch 32


def judge(record: dict) -> None:
    """Gives every timed result its fraction of the best rate that any process measured, and marks the impossible."""
    from inception_tf.arch import counting
    from inception_tf.benchmark.plausibility import Evidence, Peak, suspicions
    from inception_tf.models import find_network

    results = [r for part in record["parts"].values() for r in part["results"]]
    peaks: dict[str, float] = {}
    for result in results:
        timing = result.get("timing")
        if timing and timing["peak_flops_per_second"]:
            key = _precision(result)
            peaks[key] = max(peaks.get(key, 0.0), timing["peak_flops_per_second"])
    record["peak_flops_per_second"] = peaks
    for result in results:
        peak = Peak(peaks.get(_precision(result)))
        if "timing" in result:
            timing = result["timing"]
            flops = timing["flops_per_second"]
            forward, compiling = timing["forward_seconds"], timing["compile_seconds"]
        elif isinstance(result.get("peer"), dict):
            timing, peer = result["peer"], result["name"]
            fields = (
                "multiply_adds",
                *(("backward_multiply_adds",) * (result["kind"] != "forward")),
            )
            costs = counting.layer_costs(find_network(PEERS[peer][2]), timing["size"])
            flops = 2 * result["batch_size"] * sum(counting.total(costs, f) for f in fields)
            flops /= timing["median"]
            forward, compiling = None, timing["compile_seconds"]
        else:
            continue
        share = flops / peak.flops if peak.flops else None
        found = Evidence(
            timing["median"],
            flops * timing["median"],
            peak=peak,
            compile_seconds=compiling,
            forward_seconds=forward,
        )
        timing |= {"flops_per_second": flops, "share_of_peak": share}
        timing["suspect"] = list(suspicions(found))


def _precision(result: dict) -> str:
    precision = result["case"]["precision"] if "case" in result else result.get("precision", "")
    return f"{precision} without TF32" if result.get("exact") else precision


def render(record: dict) -> str:
    """The Markdown page of a record that `judge` has seen; suspect figures are listed, not shown."""
    lines = [f"# Inception on {record['device']}", "", f"    {record['command']}", ""]
    if record.get("tiny"):
        lines += [
            "A rehearsal: small images, few steps, torch.compile without its code generator.",
            "",
        ]
    lines += [record["about"], ""]
    if record["peak_flops_per_second"]:
        best = ", ".join(
            f"{v / 1e12:.3g} in {k}" for k, v in record["peak_flops_per_second"].items()
        )
        lines += [f"At best, by one large matrix product or convolution, TFLOP/s: {best}.", ""]
    for name, part in record["parts"].items():
        lines += [f"## {name}", "", f"{part['seconds']:.0f} s.", ""]
        good = [r for r in part["results"] if not _suspect(r)]
        lines += [*RENDER[name](good), ""] if good else []
        wrong = [
            {"task": r["task"], "reason": f"impossible: {'; '.join(_suspect(r))}"}
            for r in part["results"]
            if _suspect(r)
        ]
        left = [*part["not_run"], *wrong]
        if left:
            lines += ["Not run:", "", *(f"- {one['task']}: {one['reason']}" for one in left), ""]
    return "\n".join(lines)


def _suspect(result: dict) -> list[str]:
    timing = result.get("timing") or result.get("peer")
    return timing["suspect"] if timing else []


def _table(header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _rates(timing: dict, batch: int) -> tuple[str, ...]:
    share = timing["share_of_peak"]
    return (
        f"{1e3 * timing['median']:.2f}",
        f"{batch / timing['median']:,.0f}",
        f"{timing['flops_per_second'] / 1e9:,.0f}",
        f"{share:.0%}" if share else "",
    )


RATES = ("ms / step", "images / s", "GFLOP/s", "of the peak")


def _render_report(results: list[dict]) -> list[str]:
    rows = [
        (
            *(r["timing"]["model"], r["timing"]["batch_size"], _precision(r)),
            *("TF32" if r["timing"]["tf32"] else "",),
            *(f"{r['timing']['mean']:.4f} +/- {r['timing']['standard_deviation']:.4f}",),
            # The documents' figure is of this network and batch alone.
            f"{DOCUMENTS / r['timing']['mean']:.1f}" if _is_documents(r["timing"]) else "",
        )
        for r in results
    ]
    header = (
        "network",
        "batch",
        "precision",
        "",
        "sec / batch",
        "times as fast as the documents' 0.168",
    )
    first = results[0]["timing"]
    return [
        "```text",
        *first["lines"],
        "```",
        "",
        *_table(header, rows),
    ]


def _is_documents(timing: dict) -> bool:
    return (timing["model"], timing["batch_size"], timing["size"]) == ("inception_v3", 32, 299)


def _render_timings(results: list[dict]) -> list[str]:
    rows = [
        (
            *(r["timing"][key] for key in ("model", "batch_size", "size", "precision")),
            *_rates(r["timing"], r["timing"]["batch_size"]),
            f"{r['timing']['compile_seconds']:.1f}",
        )
        for r in results
    ]
    return _table(("network", "batch", "pixels", "precision", *RATES, "compiling, s"), rows)


def _render_train_steps(results: list[dict]) -> list[str]:
    rows = []
    for r in results:
        timing, batch = r["timing"], r["timing"]["batch_size"]
        fit = timing["fit_seconds"]
        rows.append(
            (
                *(timing[key] for key in ("model", "batch_size", "size", "precision")),
                *_rates(timing, batch),
                *((f"{batch / fit:,.0f}", f"{timing['median'] / fit:.2f}") if fit else ("", "")),
                f"{timing['compile_seconds']:.1f}",
            )
        )
    fitted = ("images / s of `fit`", "of the step's rate")
    header = ("network", "batch", "pixels", "precision", *RATES, *fitted, "compiling, s")
    return _table(header, rows)


def _render_peers(results: list[dict]) -> list[str]:
    rows = []
    for r in results:
        timing = r.get("timing") or r["peer"]
        name = f"ours, {timing['model']}" if "timing" in r else r["name"]
        batch = timing["batch_size"] if "timing" in r else r["batch_size"]
        kind = timing["what"].lower() if "timing" in r else r["kind"]
        rows.append((name, kind, batch, _precision(r), timing["backend"], *_rates(timing, batch)))
    return _table(("network", "what", "batch", "precision", "by", *RATES), rows)


def _render_training(results: list[dict]) -> list[str]:
    rows = []
    for r in results:
        t = r["training"]
        best = max(t["accuracy"])
        rows.append(
            (
                *(r["model"], r["data"]),
                *(r["epochs"], f"{t['accuracy'][-1]:.2%}", f"{best:.2%}", f"{t['seconds']:.0f}"),
                *(
                    f"{t['first_epoch']:.1f}",
                    f"{t['epoch']:.2f}",
                    f"{t['images'] / t['epoch']:,.0f}",
                ),
                *(f"{t['input_rate']:,.0f}", f"{t['loss_scale']:.0f}"),
            )
        )
    header = (
        "network",
        "data",
        "epochs",
        "top-1",
        "best top-1",
        "s",
        "first epoch, s",
        "s per epoch",
        "images / s",
        "input alone",
        "loss scale",
    )
    return _table(header, rows)


def _render_memory(results: list[dict]) -> list[str]:
    rows = [
        (
            *(
                r["case"]["model"],
                r["case"]["kind"],
                r["case"]["batch_size"],
                r["case"]["precision"],
            ),
            f"{r['memory']['bytes'] / 2**20:,.0f}",
            r["memory"]["of"],
        )
        for r in results
    ]
    return _table(("network", "what", "batch", "precision", "peak, MiB", "of the"), rows)


RENDER = {
    "report": _render_report,
    "networks": _render_timings,
    "train-step": _render_train_steps,
    "peers": _render_peers,
    "training": _render_training,
    "memory": _render_memory,
}
