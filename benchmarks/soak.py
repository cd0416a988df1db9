# SPDX-License-Identifier: Apache-2.0
"""Many requests of good and bad images to one server: each is answered, and memory stays flat.

A local server of a small network is started unless an address is given.  Every image's status is compared with its
first answer, and the memory of client and server is read every hundred requests; its growth after the first fifth of
the requests is printed.

    python benchmarks/soak.py
    python benchmarks/soak.py --requests 1000 --address http://localhost:8501/v1/models/flowers
"""

from __future__ import annotations

import collections
import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

import click
from data import make_jpegs

EVERY = 100  # requests between two readings of memory
BAD = (b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n" + bytes(40))


def resident(pids: list[int]) -> float:
    """MiB of memory of processes."""
    import psutil

    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 2**20


@click.command(help=__doc__)
@click.option("--address", help="A server's.  [default: a local one is started]")
@click.option("--export", "exported", help="The export's folder, for a model of pixels.")
@click.option("--way", type=click.Choice(("rest", "grpc")), default="rest", show_default=True)
@click.option("--requests", default=10_000, show_default=True)
@click.option("--each", default=2, show_default=True, help="Images per request.")
@click.option("--threads", default=4, show_default=True)
def main(address, exported, way, requests, each, threads):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import psutil
    from serving import export_network

    from inception_tf.serving import Client
    from inception_tf.serving.local_server import run_local_server

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "jpegs").mkdir()
        make_jpegs(folder / "jpegs", 16)
        good = [path.read_bytes() for path in sorted((folder / "jpegs").glob("*/*.jpg"))]
        cut = [image[: len(image) // 2] for image in good[:4]]
        images = [*good, *BAD, *cut]
        if address is None:
            served = export_network(folder, "inception_v1", 64)
            address = getattr(stack.enter_context(run_local_server(served)), way)
        pids = [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]
        client = stack.enter_context(Client(address, export=exported, parallel=1))
        expected = [answer.status for answer in client.predict(images, top=1)]
        counts, memory, lock = collections.Counter(), [], threading.Lock()
        numbers = iter(range(requests))

        def work():
            while True:
                with lock:
                    number = next(numbers, None)
                    if number is not None and number % EVERY == 0:
                        memory.append(resident(pids))
                if number is None:
                    return
                places = [(number * each + i) % len(images) for i in range(each)]
                answers = client.predict([images[place] for place in places], top=1)
                with lock:
                    for place, answer in zip(places, answers, strict=True):
                        kind = "ok" if expected[place] == "ok" else "bad"
                        counts[kind if answer.status == expected[place] else "other"] += 1
                    counts["lost"] += each - len(answers)

        start = time.perf_counter()
        pool = [threading.Thread(target=work) for _ in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        seconds = time.perf_counter() - start
        memory.append(resident(pids))
    settled = memory[len(memory) // 5 :]
    answered = counts["ok"] + counts["bad"]
    click.echo(
        f"requests {requests}, images {requests * each}: {counts['ok']} good and {counts['bad']} bad ones answered as"
        f" at first, {counts['other']} otherwise, {requests * each - answered - counts['other']} lost"
    )
    click.echo(
        f"memory   {memory[0]:.0f} MiB at first, then {min(settled):.0f} to {max(settled):.0f},"
        f" {settled[-1] - settled[0]:+.0f} from a fifth of the requests to the end"
    )
    click.echo(f"time     {seconds:.0f} s, {requests / seconds:.1f} requests/s")
    if answered != requests * each:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
