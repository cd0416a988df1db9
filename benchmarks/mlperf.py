# SPDX-License-Identifier: Apache-2.0
"""MLPerf's scenarios against a served network: single stream, server at a latency bound, offline; by MLCommons' own load generator.

The system under test is a server at an address, asked by `inception_tf.serving.Client`; the latencies are the load
generator's, and include the client.  Its random seeds are its defaults, and a run is shorter than a submission must be:
the results are no MLPerf results.

    pip install mlcommons-loadgen
    python benchmarks/mlperf.py http://localhost:8501/v1/models/flowers photos/
    python benchmarks/mlperf.py grpc://localhost:8001/v2/models/flowers photos/ --export saved_models/flowers-triton
"""

from __future__ import annotations

import array
import json
import queue
import re
import tempfile
import threading
import time
from pathlib import Path

import click

SCENARIOS = {"single-stream": "SingleStream", "server": "Server", "offline": "Offline"}
FIELD = re.compile(r"^(?P<name>[A-Za-z0-9_. ()]+?)\s*: (?P<value>.+)$", re.M)
# MLPerf inference's rules for image classification in a data center: 99 % of the queries within 15 ms, which is a GPU's.
PERCENTILE = 0.99
BATCH = 16  # images of a request in the offline scenario


class Served:
    """The system under test: queries wait in a queue, from which as many threads as clients take them."""

    def __init__(self, lg, client, images: list[bytes], threads: int, batch: int) -> None:
        self._lg, self._client, self._images, self._batch = lg, client, images, batch
        self._waiting: queue.Queue = queue.Queue()
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples) -> None:
        chunk = [(sample.id, sample.index) for sample in samples]
        for start in range(0, len(chunk), self._batch):
            self._waiting.put(chunk[start : start + self._batch])

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while chunk := self._waiting.get():
            try:
                answers = self._client.predict([self._images[index] for _, index in chunk], top=1)
                texts = [(answer.top[0][0] if answer.top else "").encode() for answer in answers]
            except Exception as error:  # a query without a response would wait forever
                self.failed.append(str(error))
                texts = [b""] * len(chunk)
            responses, kept = [], []
            for (number, _), text in zip(chunk, texts, strict=True):
                data = array.array("B", text or b"\0")
                kept.append(data)  # the generator reads the memory before it returns
                place, size = data.buffer_info()
                responses.append(self._lg.QuerySampleResponse(number, place, size))
            self._lg.QuerySamplesComplete(responses)


def settings_of(lg, scenario: str, *, queries: int, seconds: float, bound: float, rate: float):
    """The load generator's settings.

    bound: seconds that 99 % of the queries of the server scenario may take; rate: its queries per second.
    """
    found = lg.TestSettings()
    found.scenario = getattr(lg.TestScenario, SCENARIOS[scenario])
    found.mode = lg.TestMode.PerformanceOnly
    found.min_query_count = queries
    found.min_duration_ms = int(seconds * 1000)
    if scenario == "single-stream":
        found.single_stream_target_latency_percentile = 0.9
    elif scenario == "server":
        found.server_target_qps = rate
        found.server_target_latency_ns = int(bound * 1e9)
        found.server_target_latency_percentile = PERCENTILE
    else:
        # One query, of as many samples as the rate takes for the time; less than a tenth too few is not valid.
        found.offline_expected_qps = max(rate, queries / max(seconds, 1.0))
        found.min_query_count = 1
    return found


def run_scenario(lg, client, images: list[bytes], scenario: str, threads: int, **settings) -> dict:
    """Runs one scenario and returns what the load generator's summary says, name to value."""
    served = Served(lg, client, images, threads, 1 if scenario != "offline" else BATCH)
    with tempfile.TemporaryDirectory() as folder:
        output, log = lg.LogOutputSettings(), lg.LogSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        log.log_output, log.enable_trace = output, False
        nothing = lambda *_: None  # noqa: E731  # images are in memory already
        sut = lg.ConstructSUT(served.issue, nothing)
        qsl = lg.ConstructQSL(len(images), len(images), nothing, nothing)
        try:
            lg.StartTestWithLogSettings(
                sut, qsl, settings_of(lg, scenario, **settings), log, "audit.config"
            )
        finally:
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
            served.close()
        summary = Path(folder, "mlperf_log_summary.txt").read_text()
    if served.failed:
        raise click.ClickException(f"{len(served.failed)} requests failed: {served.failed[0]}")
    return {m["name"].strip(): m["value"].strip() for m in FIELD.finditer(summary)}


def row(scenario: str, found: dict) -> str:
    """A row of the table: what the scenario is about, and its percentiles."""
    result = {
        "single-stream": ("90.0th percentile latency (ns)", "ms"),
        "server": ("Completed samples per second", "queries/s"),
        "offline": ("Samples per second", "images/s"),
    }[scenario]
    value = float(found[result[0]])
    value = value / 1e6 if result[1] == "ms" else value
    percentiles = [
        f"{int(found[name]) / 1e6:.0f}"
        for name in ("50.00 percentile latency (ns)", "99.00 percentile latency (ns)")
    ]
    return f"| {scenario} | {value:.1f} {result[1]} | {' | '.join(percentiles)} | {found['Result is']} |"


@click.command(help=__doc__)
@click.argument("address")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--export", "exported", help="The export's folder, for a model of pixels.")
@click.option("--scenario", multiple=True, type=click.Choice(tuple(SCENARIOS)))
@click.option(
    "--queries",
    default=700,
    show_default=True,
    help="At least so many; the load generator calls a 99th percentile of fewer than 662 not valid.",
)
@click.option("--seconds", default=10.0, show_default=True, help="At least so long.")
@click.option("--bound", default=0.2, show_default=True, help="Seconds, of the server scenario.")
@click.option(
    "--rate", default=10.0, show_default=True, help="Queries per second, of the server scenario."
)
@click.option("--threads", default=4, show_default=True, help="Requests at the same time.")
@click.option("--json", "as_json", is_flag=True, help="All of the load generator's figures.")
def main(address, folder, exported, scenario, queries, seconds, bound, rate, threads, as_json):
    from inception_tf.data.sources.images import find_images
    from inception_tf.serving import Client

    try:
        import mlperf_loadgen as lg
    except ImportError as error:
        raise click.ClickException("pip install mlcommons-loadgen") from error
    images = [Path(path).read_bytes() for path in find_images([str(folder)])]
    found = {}
    with Client(address, export=exported, parallel=1) as client:
        client.predict(images[:2], top=1)  # the first request waits for connections
        start = time.perf_counter()
        client.predict(images[:BATCH], top=1)
        fastest = threads * BATCH / (time.perf_counter() - start)  # images per second
        for name in scenario or SCENARIOS:
            found[name] = run_scenario(
                *(lg, client, images, name, threads),
                queries=queries,
                seconds=seconds,
                bound=bound,
                rate=fastest if name == "offline" else rate,
            )
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo("| scenario | result | p50, ms | p99, ms | valid |\n|---|---|---|---|---|")
    for name, summary in found.items():
        click.echo(row(name, summary))


if __name__ == "__main__":
    main()
