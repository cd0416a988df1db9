# SPDX-License-Identifier: Apache-2.0
"""What each part of `accelerator.py` does: groups of tasks, each group in a process of its own."""

from __future__ import annotations

from functools import partial

# By what they took on an H200: compiling a forward pass of V3 20 s, a training step 30 to 50 s.
SHARES = {
    "report": 0.20,
    "train-step": 0.20,
    "peers": 0.06,
    "training": 0.38,
    "networks": 0.10,
    "memory": 0.06,
}
SMALL = "googlenet"  # for rehearsals: the network of the family that compiles soonest
NETWORKS = (
    *("inception_v3", "inception_v4", "inception_resnet_v2", "inception_v1", "bn_inception"),
    *("googlenet", "inception_v2", "inception", "inception_resnet_v1", "vgg16", "alexnet"),
)
TRAINED = ("inception_v3", "bn_inception", "inception_v4", "inception_resnet_v2")
# Their network: (module, name there, our network of the same operations, size in pixels).
PEERS = {
    "timm inception_v3": ("timm", "inception_v3", "inception_v3", 299),
    "torchvision googlenet": ("torchvision", "googlenet", "inception_v1", 224),
    "timm inception_v4": ("timm", "inception_v4", "inception_v4", 299),
    "timm inception_resnet_v2": ("timm", "inception_resnet_v2", "inception_resnet_v2", 299),
}


def groups(part: str, tiny: bool) -> list[dict]:
    """Groups of a part in the order of their worth.

    Returns:
        Dicts with `backend` (of Keras, or "" for torch alone) and `tasks`, dicts that `run_task` takes.
    """
    return {
        "report": _report_groups,
        "networks": _network_groups,
        "train-step": _train_step_groups,
        "peers": _peer_groups,
        "training": _training_groups,
        "memory": _memory_groups,
    }[part](tiny)


def _case(kind: str, model: str, batch: int, precision: str, tiny: bool, **more) -> dict:
    from inception_tf.models import find_network

    case = {"kind": kind, "model": model, "batch_size": batch, "precision": precision, **more}
    if tiny:
        case |= {"size": find_network(model).min_size, "batch_size": min(batch, 3), "steps": 2}
    return {"do": "time", "case": {"backend": "keras", **case}}


def _report_groups(tiny: bool) -> list[dict]:
    model = SMALL if tiny else "inception_v3"
    case = partial(_case, "forward", model, 32, tiny=tiny)
    others = [case("float32"), case("float16"), case("float32") | {"exact": True}]
    # Apart: a part that ends early has the first.
    return [{"backend": "jax", "tasks": [case("bfloat16")]}, {"backend": "jax", "tasks": others}]


def _network_groups(tiny: bool) -> list[dict]:
    names = (SMALL, "alexnet") if tiny else NETWORKS
    batches = (2, 1) if tiny else (256, 32, 1)
    tasks = [
        _case("forward", name, batch, precision, tiny, steps=2 if tiny else 30)
        for precision in ("bfloat16", "float16")
        for name in names
        for batch in batches
    ]
    return [{"backend": "jax", "tasks": tasks}]


def _train_step_groups(tiny: bool) -> list[dict]:
    names = (SMALL,) if tiny else TRAINED
    first, *others = [
        _case("train-step", name, batch, precision, tiny, steps=2 if tiny else 20)
        for batch in ((2,) if tiny else (64, 256))
        for name in names
        for precision in ("bfloat16", "float16")
    ]
    # Apart: compiled alone it is there sooner.
    return [{"backend": "jax", "tasks": [first]}, {"backend": "jax", "tasks": others}]


def _peer_groups(tiny: bool) -> list[dict]:
    def peer(name, kind="forward", precision="bfloat16", compiled=True, batch=256):
        task = {"do": "peer", "name": name, "kind": kind, "precision": precision}
        task |= {"compiled": compiled, "batch_size": batch, "steps": 30}
        return task | ({"batch_size": 2, "steps": 2, "size": 80} if tiny else {})

    if tiny:
        ours = _case("forward", "alexnet", 2, "bfloat16", tiny, compile="graph")
        theirs = [
            peer("torchvision googlenet", compiled=False),
            peer("torchvision googlenet"),
            peer("timm inception_v3", "train-step", compiled=False),
        ]
        return [{"backend": "", "tasks": theirs}, {"backend": "torch", "tasks": [ours]}]
    first, *others = PEERS
    ours = _case("forward", "inception_v3", 256, "bfloat16", tiny, steps=30, compile="graph")
    return [
        {
            "backend": "",
            "tasks": [
                peer(first, compiled=False),
                peer(first, "train-step", compiled=False, batch=64),
                *(peer(name, compiled=False) for name in others),
                peer(first),
            ],
        },
        {"backend": "torch", "tasks": [ours]},
        {
            "backend": "",
            "tasks": [
                peer(first, "train-step", batch=64),
                *(peer(name) for name in others),
                peer(first, precision="float16"),
            ],
        },
    ]


def _training_groups(tiny: bool) -> list[dict]:
    digits = {"do": "train", "data": "digits", "model": "inception_v1", "recipe": "digits"}
    digits |= {"epochs": 20, "batch_size": 32, "width": 1.0}
    photos = {"do": "train", "data": "photos", "model": "inception_v3", "recipe": "finetune"}
    photos |= {"epochs": 12, "head_epochs": 4, "batch_size": 32, "width": 1.0, "size": 299}
    photos["test_batch"] = 120
    if tiny:
        digits |= {"epochs": 2, "width": 0.25}
        photos |= {"epochs": 2, "head_epochs": 1, "size": 75}
    return [{"backend": "jax", "tasks": [task]} for task in (digits, photos)]


def _memory_groups(tiny: bool) -> list[dict]:
    model = "alexnet" if tiny else "inception_v3"
    cases = [
        _case("forward", model, 256, "bfloat16", tiny, steps=2),
        _case("train-step", model, 64, "bfloat16", tiny, steps=2),
        _case("train-step", model, 256, "bfloat16", tiny, steps=2),
        _case("forward", model, 32, "bfloat16", tiny, steps=2),
    ]
    # A process each: a peak does not fall again.
    return [
        {"backend": "jax", "tasks": [case | {"do": "memory"}]}
        for case in cases[: 2 if tiny else None]
    ]


def title(task: dict) -> str:
    """What a task is called in lists and errors."""
    if task["do"] == "peer":
        how = "torch.compile" if task["compiled"] else "eager"
        return f"{task['name']}, {task['kind']}, batch {task['batch_size']}, {task['precision']}, {how}"
    if task["do"] == "train":
        return f"{task['model']} on {task['data']}, {task['epochs']} epochs, mixed_float16"
    case = task["case"]
    precision = case["precision"] + (" without TF32" if task.get("exact") else "")
    what = "memory of " if task["do"] == "memory" else ""
    return f"{what}{case['model']}, {case['kind']}, batch {case['batch_size']}, {precision}"
