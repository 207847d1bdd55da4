"""Whether the service holds a crowd for long within bounded memory, with every request answered.

    python benchmarks/soak.py [--minutes 10] [--clients 64]

Sixty-four clients, eight tenants with eight each, send calls of mixed sizes, numbers, references and modes to a `limner
serve` of its own process, each one its next as soon as it has an answer; who is told 1002 waits as Retry-After says.
Every call must be answered: painted, whole JPEGs of exactly the asked size, or 1002; on a machine that is too slow for
such a crowd also late, as the service promises after request_seconds: with fewer pictures, or 1001. The memory of the
service is read every two seconds. Its mean in the last minute may be a tenth above that of the minute before half time,
when every size was seen: the networks' runtime keeps something for each size that it meets.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2

from fair import Tenant, serving
from load import GROWTH, Answers, calls, reference, resident, send
from machine import machine

TENANTS = 8
EVERY = 2.0
"""Seconds between two readings of the memory."""

RECORD = 48
"""Calls of the list that each client goes through, over and over from a place of its own."""

LATE = re.compile(r"1001: |\d+ pictures for n=")
"""What `send` says of an answer that came after request_seconds with what was ready."""


@dataclass(slots=True)
class Tally:
    sent: int = 0
    answers: Answers = field(default_factory=Answers)


class Paced(httpx2.Client):
    """A client that remembers how long it was last told to wait."""

    wait: float = 0.0

    def post(self, *args: Any, **kwargs: Any) -> httpx2.Response:
        reply = super().post(*args, **kwargs)
        self.wait = float(reply.headers.get("retry-after", 0))
        return reply


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--clients", type=int, default=64)
    given = options.parse_args()
    print(machine(), end="\n\n", flush=True)
    tallies = [Tally() for _ in range(given.clients)]
    readings: list[tuple[float, float]] = []  # seconds since the start, MB
    names = tuple(f"tenant-{number}" for number in range(TENANTS))
    with serving(names, LIMNER_REFERENCE_ALLOW="127.0.0.1/32") as (address, process, tenants), reference() as url:
        every, began = list(calls(RECORD, url)), time.monotonic()
        ends = began + 60 * given.minutes

        def run(number: int, tenant: Tenant) -> None:
            tally, place, chance = tallies[number], number * RECORD // given.clients, random.Random(number)
            with Paced(base_url=address, timeout=1200, trust_env=False, headers=tenant.header) as client:
                while time.monotonic() < ends:
                    body, size = every[place % RECORD]
                    place, tally.sent = place + 1, tally.sent + 1
                    try:
                        send(client, body, size, tally.answers)
                    except Exception as error:
                        tally.answers.wrong.append(f"{type(error).__name__}: {error}")
                    if client.wait:
                        time.sleep(client.wait * (1 + chance.random()))

        threads = [
            threading.Thread(target=run, args=(number, tenants[number % TENANTS])) for number in range(given.clients)
        ]
        for thread in threads:
            thread.start()
        told = began
        while any(thread.is_alive() for thread in threads):
            readings.append((time.monotonic() - began, resident(process)))
            if time.monotonic() > told + 60:
                told = time.monotonic()
                answered = sum(tally.answers.codes.total() for tally in tallies)
                print(f"   minute {(told - began) / 60:4.1f}: {answered} answers, {readings[-1][1]:.0f} MB", flush=True)
            time.sleep(EVERY)
        seconds = time.monotonic() - began
    kept = report(tallies, readings, seconds, given.minutes)
    sys.exit(not kept)


def report(tallies: list[Tally], readings: list[tuple[float, float]], seconds: float, minutes: float) -> bool:
    """Print what came of it; whether it is as promised."""
    codes: Counter[int] = Counter()
    for tally in tallies:
        codes += tally.answers.codes
    said = Counter(line for tally in tallies for line in tally.answers.wrong)
    wrong = Counter({line: number for line, number in said.items() if not LATE.match(line)})
    late = said.total() - wrong.total()
    painted = [second for tally in tallies for second in tally.answers.seconds]
    sent, pictures = sum(tally.sent for tally in tallies), sum(tally.answers.pictures for tally in tallies)
    print(f"{len(tallies)} clients for {seconds / 60:.1f} minutes: {sent} calls, {pictures} pictures")
    print(f"   answers by code {dict(codes)}, {codes.total()} in all, {late} late")
    if len(painted) > 1:
        cuts = statistics.quantiles(painted, n=20)
        print(f"   seconds of painted calls: median {statistics.median(painted):.1f}, 19 of 20 within {cuts[-1]:.1f}")
    served = [sum(tally.answers.pictures for tally in tallies[number::TENANTS]) for number in range(TENANTS)]
    print(f"   pictures by tenant {served}")
    half = 30 * minutes
    middle = [mb for at, mb in readings if half - 60 <= at < half] or [readings[0][1]]
    last = [mb for at, mb in readings if 60 * (minutes - 1) <= at <= 60 * minutes] or [readings[-1][1]]
    growth = statistics.mean(last) / statistics.mean(middle) - 1
    print(
        f"   memory, MB: {readings[0][1]:.0f} at the start, {statistics.mean(middle):.0f} in the minute before half "
        f"time, {statistics.mean(last):.0f} in the last, {max(mb for _, mb in readings):.0f} at most"
    )
    for line, number in wrong.most_common(5):
        print(f"   WRONG      {number} × {line}")
    right, flat = codes.total() == sent and not wrong, growth < GROWTH
    print(f"   {'kept' if right else 'MISSED'}: every call was answered, with right pictures or 1002, or late")
    print(f"   {'kept' if flat else 'MISSED'}: memory, last minute over half time {growth:+.1%}, limit {GROWTH:.0%}")
    return right and flat


if __name__ == "__main__":
    main()
