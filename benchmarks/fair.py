"""How much a greedy tenant slows another.

    python benchmarks/fair.py [--quick] [--side 1024] [--in-flight 32]

A `limner serve` of its own process, with the real painter and three tenants' keys. The modest tenant asks for single
pictures, one after the other: alone; beside an equal, who does the same; and beside a greedy tenant who keeps 32
requests in flight. The three take turns, and medians are compared. Beside the greedy one its pictures may take at most
a fifth longer than beside its equal, and every one must be painted.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from latency import LIMNER
from limner import logs
from limner.config import Settings
from limner.storage import keys
from limner.storage.database import Database
from limner.storage.keys import Limits
from machine import machine, plain_environment

API = "/v1/image_generation"
MOST = 1.2
"""How much longer the modest tenant's pictures may take beside the greedy one than beside its equal."""


@dataclass(slots=True)
class Tenant:
    name: str
    header: dict[str, str]
    codes: Counter[int] = field(default_factory=Counter)  # of all its calls; -1: no answer
    seed: int = 0


def ask(client: httpx2.Client, tenant: Tenant, side: int) -> float:
    """Seconds of one picture of the tenant's, whatever came of it."""
    tenant.seed += 1
    body = {
        "model": "image-01",
        "prompt": "a red fox on a snowy hill",
        "width": side,
        "height": side,
        "seed": tenant.seed,
        "response_format": "base64",
    }
    began = time.perf_counter()
    try:
        code = client.post(API, json=body, headers=tenant.header).json()["base_resp"]["status_code"]
    except httpx2.HTTPError:
        code = -1
    tenant.codes[code] += 1
    return time.perf_counter() - began


@contextmanager
def serving(names: tuple[str, ...], **variables: str) -> Iterator[tuple[str, int, list[Tenant]]]:
    """Address and process of a `limner serve` of its own, and its tenants."""
    with tempfile.TemporaryDirectory() as folder:
        tenants = []
        logs.configure(Settings(log_level="warning"))
        with closing(Database.open(Settings(data_dir=Path(folder)))) as database, database.transaction() as connection:
            for name in names:
                _, secret = keys.create(connection, name, Limits(), time.time())
                tenants.append(Tenant(name, {"Authorization": f"Bearer {secret}"}))
        process = subprocess.Popen(
            [LIMNER, "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            env=plain_environment() | {"LIMNER_DATA_DIR": folder, "LIMNER_LOG_LEVEL": "warning", **variables},
        )
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None, "the service did not start"
            yield found[0], process.pid, tenants
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def beside(address: str, tenant: Tenant | None, in_flight: int, side: int) -> Iterator[None]:
    """Meanwhile a tenant keeps so many requests in flight; it has begun when this does, and is done when it ends."""
    stop, under_way = threading.Event(), threading.Semaphore(0)

    def run(client: httpx2.Client, tenant: Tenant) -> None:
        under_way.release()
        while not stop.is_set():
            ask(client, tenant, side)

    limits = httpx2.Limits(max_connections=in_flight or 1)
    with httpx2.Client(base_url=address, timeout=600, trust_env=False, limits=limits) as client:
        others = [threading.Thread(target=run, args=(client, tenant)) for _ in range(in_flight) if tenant is not None]
        for thread in others:
            thread.start()
        for _ in others:
            under_way.acquire()
        try:
            yield
        finally:
            stop.set()
            for thread in others:
                thread.join()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="3 rounds of 4 pictures instead of 6 of 8")
    options.add_argument("--side", type=int, default=1024, help="pixels of each side")
    options.add_argument("--in-flight", type=int, default=32, help="requests of the greedy tenant at once")
    given = options.parse_args()
    rounds, pictures = (3, 4) if given.quick else (6, 8)
    print(machine(), end="\n\n")
    seconds: dict[str, list[float]] = {"alone": [], "beside an equal": [], "beside the greedy one": []}
    with serving(("modest", "equal", "greedy")) as (address, _, tenants):
        modest, equal, greedy = tenants
        cases = (("alone", None, 0), ("beside an equal", equal, 1), ("beside the greedy one", greedy, given.in_flight))
        with httpx2.Client(base_url=address, timeout=600, trust_env=False) as client:
            ask(client, modest, given.side)  # warm
            for _ in range(rounds):
                for case, tenant, in_flight in cases:
                    with beside(address, tenant, in_flight, given.side):
                        ask(client, modest, given.side)  # by now the others are under way
                        seconds[case] += [ask(client, modest, given.side) for _ in range(pictures)]
    print(f"{rounds * pictures} pictures of {given.side}×{given.side} each, seconds")
    for case, times in seconds.items():
        spread = statistics.quantiles(times, n=10)
        print(f"  {case:22} median {statistics.median(times):.2f}, nine of ten within {spread[-1]:.2f}")
    slower = statistics.median(seconds["beside the greedy one"]) / statistics.median(seconds["beside an equal"])
    for tenant in tenants:
        print(f"  {tenant.name:22} answers by code: {dict(tenant.codes)}")
    painted = set(modest.codes) == {0} and -1 not in greedy.codes + equal.codes
    kept = slower < MOST
    print(f"   {'kept' if painted else 'MISSED'}: every call of the modest tenant was painted, and every call answered")
    print(
        f"   {'kept' if kept else 'MISSED'}: beside {given.in_flight} requests of a greedy tenant it waits "
        f"{slower - 1:+.0%} longer than beside an equal, limit {MOST - 1:.0%}"
    )
    sys.exit(not (kept and painted))


if __name__ == "__main__":
    main()
