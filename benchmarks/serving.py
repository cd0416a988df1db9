# SPDX-License-Identifier: Apache-2.0
"""Requests per second and their latency, of an exported network served by `inception_tf.serving.local_server`.

Two servers of the same SavedModel run, one with batching over requests and one without, each in its own
process; `inception_tf.serving.Client` queries them over REST and gRPC from 1, 4 and 16 threads, one client
each.  Every round interleaves all of these, so that other programs affect them equally.  Then 16 clients
send requests with one bad image among good ones, and each good image's prediction is compared with the
one that it got alone.

    python benchmarks/serving.py
    python benchmarks/serving.py --rounds 1 --requests 50 --size 64

Another server of any network takes part with its address, for a model of pixels with its export's folder; the table
then has a row of it for each number of clients:

    python benchmarks/serving.py --also http://localhost:8000/v2/models/flowers --export saved_models/flowers-onnx
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
from data import make_jpegs

CLIENTS = (1, 4, 16)
UNCOUNTED = 2  # requests of each client before the clock starts
JPEGS = 64
SECONDS = 60.0  # for one measurement, at most
TOLERANCE = 1e-4  # of a probability: a batch of another size adds in another order
# Requests wait at most 2 ms for company; no queue that 16 clients could fill.
BATCHING = {"max_batch_size": 32, "batch_timeout_micros": 2_000, "max_enqueued_batches": 100}
HEAD = (
    "| API | batching | clients | requests/s | images/s | p50, ms | p99, ms |\n"
    "|---|---|---|---|---|---|---|"
)
BAD_HEAD = (
    "| API | batching | bad images | good images | good ones lost | good ones changed | largest difference |\n"
    "|---|---|---|---|---|---|---|"
)


@dataclass
class Load:
    """What one way of asking took, over all rounds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds

    def row(self, images: int) -> str:
        import numpy as np

        rate = len(self.latencies) / self.seconds
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1000
        return f"{rate:.1f} | {rate * images:.1f} | {p50:.0f} | {p99:.0f}"


def export_network(folder: Path, name: str, size: int) -> Path:
    """A network with 1,000 classes and random weights: trained ones take the same time."""
    import keras

    import inception_tf
    from inception_tf.data.preprocessing import Preprocessing
    from inception_tf.export.savedmodel import export

    network = inception_tf.create_model(name, input_shape=(size, size, 3))
    initializers = keras.initializers
    for seed, weight in enumerate(network.trainable_weights):
        # The initial weights would give all classes the same probability.
        kernel = len(weight.shape) > 1
        rule = initializers.HeNormal(seed) if kernel else initializers.RandomNormal(0, 0.1, seed)
        weight.assign(rule(weight.shape))
    names = [f"class {i}" for i in range(1000)]
    return export(network, names, folder / name, Preprocessing(size))


def run_clients(
    address: str, clients: int, requests: int, ask, exported: str | None = None
) -> float:
    """Seconds for `requests` calls of `ask(client, number)`, counted over all clients."""
    from inception_tf.serving import Client

    numbers = itertools.count()
    start: list[float] = []
    # The last to arrive reads the clock, before any of them goes on.
    started = threading.Barrier(clients + 1, lambda: start.append(time.perf_counter()))
    failures: list[BaseException] = []
    deadline = [0.0]

    def work():
        try:
            with Client(address, parallel=1, export=exported) as client:
                for _ in range(UNCOUNTED):
                    ask(client, None)
                started.wait()
                # next() of a count is one step of the interpreter: each number is drawn once.
                while (number := next(numbers)) < requests and time.perf_counter() < deadline[0]:
                    ask(client, number)
        except BaseException as error:
            failures.append(error)
            started.abort()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    deadline[0] = time.perf_counter() + SECONDS
    for thread in threads:
        thread.start()
    try:
        started.wait()
    except threading.BrokenBarrierError:
        raise failures[0] from None
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - start[-1]


def measure(
    load: Load,
    address: str,
    clients: int,
    requests: int,
    images: list[bytes],
    each: int,
    exported: str | None = None,
):
    def ask(client, number):
        first = (number or 0) * each
        start = time.perf_counter()
        client.predict([images[(first + i) % len(images)] for i in range(each)])
        if number is not None:
            load.latencies.append(time.perf_counter() - start)

    load.seconds += run_clients(address, clients, requests, ask, exported)


def among_bad(address: str, requests: int, images: list[bytes], clean: list) -> str:
    """Four images a request, one of them bad: what becomes of the good ones.

    A good one is lost where it has no classes, and changed where a class or a probability is not as in `clean`.
    """
    bad = (b"", b"no image", images[0][: len(images[0]) // 2], images[0][:3])
    lost, changed, seen, distance = [], [], [], []

    def ask(client, number):
        number = number or 0
        places = [(number * 3 + i) % len(images) for i in range(3)]
        sent = [images[place] for place in places]
        sent.insert(number % 4, bad[number // 4 % 4])
        answers = client.predict(sent)
        refused = answers.pop(number % 4)
        if refused.status == "ok":
            raise RuntimeError("a bad image was answered")
        for place, answer in zip(places, answers, strict=True):
            seen.append(place)
            if answer.status != "ok":
                lost.append(place)
                continue
            pairs = list(zip(answer.top, clean[place].top, strict=True))
            worst = max(abs(one[1] - other[1]) for one, other in pairs)
            distance.append(worst)
            if worst > TOLERANCE or any(one[0] != other[0] for one, other in pairs):
                changed.append(place)

    run_clients(address, 16, requests, ask)
    return f"{len(seen) // 3} | {len(seen)} | {len(lost)} | {len(changed)} | {max(distance):.1g}"


@click.command(help=__doc__)
@click.option("--model", default="inception_v1", show_default=True)
@click.option("--size", default=224, show_default=True, help="Height and width in pixels.")
@click.option("--rounds", default=8, show_default=True)
@click.option(
    "--requests", default=50, show_default=True, help="Requests per measurement and round."
)
@click.option("--each", default=1, show_default=True, help="Images per request.")
@click.option("--also", multiple=True, help="The address of another server; may be repeated.")
@click.option("--export", "exported", help="The export's folder of those, for models of pixels.")
def main(model, size, rounds, requests, each, also, exported):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from inception_tf.serving import Client
    from inception_tf.serving.local_server import Batching, run_local_server

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "jpegs"
        folder.mkdir()
        make_jpegs(folder, JPEGS)
        images = [path.read_bytes() for path in sorted(folder.glob("*/*.jpg"))]
        click.echo(
            f"{model} at {size}x{size}, {JPEGS} JPEGs of 500x375 and"
            f" {sum(map(len, images)) / JPEGS / 1000:.0f} kB, {each} a request, {os.cpu_count()} cores"
        )
        served = export_network(Path(temporary), model, size)
        with (
            run_local_server(served) as plain,
            run_local_server(served, batching=Batching(**BATCHING)) as batched,
        ):
            with Client(plain.grpc, batch_size=1) as client:
                clean = client.predict(images)
            addresses = {
                (way, joined): getattr(batched if joined == "yes" else plain, way.lower())
                for way in ("REST", "gRPC")
                for joined in ("no", "yes")
            }
            folders = {address: exported for address in also if "/v2/" in address}
            loads = {
                key: Load()
                for key in itertools.product(
                    addresses | {(address, ""): address for address in also}, CLIENTS
                )
            }
            for number in range(rounds):
                for (kind, clients), load in loads.items():
                    address = addresses.get(kind, kind[0])
                    measure(load, address, clients, requests, images, each, folders.get(address))
                click.echo(f"round {number + 1} of {rounds}", err=True)
            click.echo(BAD_HEAD)
            for kind, address in addresses.items():
                click.echo(
                    f"| {' | '.join(kind)} | {among_bad(address, 4 * requests, images, clean)} |"
                )
    click.echo(HEAD)
    for (kind, clients), load in loads.items():
        click.echo(f"| {' | '.join(kind)} | {clients} | {load.row(each)} |")


if __name__ == "__main__":
    main()
