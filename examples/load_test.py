"""Put examples/serve.py under load: throughput, latency, errors, memory.

    python examples/load_test.py model.onnx --clients 200 --seconds 60

Starts the service on a free port of this machine and lets the clients ask, each its next question
as soon as it has an answer. The first seconds warm up and count for nothing. Ends with status 1 if
a request failed, or if the service's memory grew by more than `--max-growth` afterwards.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import io
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import psutil
from PIL import Image

SERVE = Path(__file__).with_name("serve.py")


@dataclasses.dataclass(frozen=True)
class Load:
    """What a load test measured.

    Attributes:
        answers: number of answers by status code; what got no answer is under the error's name.
        seconds: measured, after warming up.
        latencies: of each answer, in seconds.
        batch: mean number of images that were computed at once.
        memory: of the service (resident set), in bytes: after warming up, then every half second.
    """

    answers: Counter
    seconds: float
    latencies: np.ndarray
    batch: float
    memory: list[int]

    @property
    def errors(self) -> int:
        return self.answers.total() - self.answers[200]

    @property
    def growth(self) -> int:
        """Bytes by which the memory was ever larger than after warming up."""
        return max(self.memory) - self.memory[0]

    def __str__(self) -> str:
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1000
        answers = ", ".join(f"{count:,} x {status}" for status, count in self.answers.items())
        return (
            f"answers      {answers}\n"
            f"throughput   {self.answers[200] / self.seconds:.1f} images/s over "
            f"{self.seconds:.0f} s, {self.batch:.1f} a batch\n"
            f"latency      p50 {p50:.0f} ms, p99 {p99:.0f} ms\n"
            f"memory       {self.memory[0] / 1e6:.0f} MB after warming up, "
            f"{self.growth / 1e6:+.0f} MB at most"
        )


@contextlib.contextmanager
def service(model: str | Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Runs examples/serve.py on a free port: its address and process.

    Raises:
        RuntimeError: if it does not start; its own message is on the standard error.
    """
    command = [sys.executable, str(SERVE), str(model), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            if "http://" not in line:
                raise RuntimeError(f"the service did not start. Received: {line!r}")
            yield line.split()[-1], psutil.Process(process.pid)
        finally:
            process.terminate()


def measure(
    address: str,
    process: psutil.Process,
    images: list[bytes],
    *,
    clients: int,
    seconds: float,
    warm_up: float,
    grad_cam: bool = False,
) -> Load:
    """Lets clients ask for a while.

    Args:
        address: of the service.
        process: of the service.
        images: encoded images that are sent in turn.
        clients: that ask at once, each over a connection of its own.
        seconds: that are measured.
        warm_up: seconds before that.
        grad_cam: whether they want a heat map, too.

    Returns:
        What was measured.
    """
    return asyncio.run(_measure(address, process, images, clients, seconds, warm_up, grad_cam))


async def _measure(address, process, images, clients, seconds, warm_up, grad_cam) -> Load:
    limits = httpx2.Limits(max_connections=clients + 1)
    async with httpx2.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        answers, latencies, memory = Counter(), [], []
        start = time.perf_counter() + warm_up
        end = start + seconds

        async def ask(number: int) -> None:
            while (asked := time.perf_counter()) < end:
                body = images[number % len(images)]
                number += 1
                try:
                    response = await client.post(
                        "/predict", params={"grad_cam": grad_cam}, content=body
                    )
                    outcome = response.status_code
                except httpx2.HTTPError as error:
                    outcome = type(error).__name__
                answered = time.perf_counter()
                if answered >= start:
                    answers[outcome] += 1
                    latencies.append(answered - asked)

        async def watch() -> dict:
            await asyncio.sleep(warm_up)
            before = (await client.get("/health")).json()
            while time.perf_counter() < end:
                memory.append(process.memory_info().rss)
                await asyncio.sleep(0.5)
            after = (await client.get("/health")).json()
            return {key: after[key] - before[key] for key in ("images", "batches")}

        done, *_ = await asyncio.gather(watch(), *map(ask, range(clients)))
    batch = done["images"] / max(done["batches"], 1)
    return Load(answers, time.perf_counter() - start, np.array(latencies), batch, memory)


def photograph(seed: int, size: tuple[int, int] = (640, 480)) -> bytes:
    """A made-up JPEG image of some detail; as large as an image on the web."""
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), "uint8")
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", help="what keras_resnets.export wrote")
    add(
        "images", metavar="IMAGE", nargs="*", type=Path, help="files to send; default: made-up ones"
    )
    add("--clients", type=int, default=200, help="that ask at once (%(default)s)")
    add("--seconds", type=float, default=60, help="warming up and measuring (%(default)s)")
    add("--grad-cam", action="store_true", help="ask for heat maps, too")
    add("--max-growth", type=int, default=50, help="of the memory, in MB (%(default)s)")
    arguments = parser.parse_args()
    images = [path.read_bytes() for path in arguments.images] or [*map(photograph, range(16))]
    warm_up = arguments.seconds / 4
    with service(arguments.model) as (address, process):
        load = measure(
            address,
            process,
            images,
            clients=arguments.clients,
            seconds=arguments.seconds - warm_up,
            warm_up=warm_up,
            grad_cam=arguments.grad_cam,
        )
    print(load)
    if load.errors or load.growth > arguments.max_growth * 1e6:
        sys.exit(1)


if __name__ == "__main__":
    main()
