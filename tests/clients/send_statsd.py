"""Sends pseudo-random operations through the unmodified Python package "statsd".

Usage: send_statsd.py HOST PORT SEED COUNT

Prints one JSON line per operation, {"kind", "name", "tags", "value"}: what was meant, from which the test
makes its own tally. Rates are always 1, and the pace is kept below what loopback could drop.
"""

import json
import random
import sys
import time

import statsd

PREFIX = "pystatsd"
NAMES = ["orders", "checkout.cart", "mail_sent", "search-box", "v2.api.calls"]
PIPELINE_OPERATIONS = 10  # each tenth run of operations leaves as one datagram
PAUSE_EVERY = 20
PAUSE_SECS = 0.001


def pick(rng):
    """One operation: kind, name and value."""
    kind = rng.choices(["counter", "timer", "gauge", "gauge_delta", "set"], [40, 30, 10, 10, 10])[0]
    name = f"{kind}.{rng.choice(NAMES)}"
    if kind == "counter":
        return kind, name, rng.choice([1, 1, 1, -1, -3, 7, 0.1, 2.5, 120_000])
    if kind == "timer":
        return kind, name, round(rng.expovariate(1 / 80), 3)
    if kind == "gauge":
        # A negative value goes out as two lines, 0 and then the value, which statsd would take for a delta.
        return kind, "gauge." + rng.choice(NAMES), rng.randint(-500, 5_000)
    if kind == "gauge_delta":
        return kind, "gauge." + rng.choice(NAMES), rng.choice([1, -1, 12.5, -40])
    return kind, name, f"user-{rng.randint(1, 150)}"


def send(client, kind, name, value):
    """Sends one operation through a client or a pipeline."""
    if kind == "counter" and value < 0:
        client.decr(name, -value)
    elif kind == "counter":
        client.incr(name, value)
    elif kind == "timer":
        client.timing(name, value)
    elif kind == "gauge":
        client.gauge(name, value)
    elif kind == "gauge_delta":
        client.gauge(name, value, delta=True)
    else:
        client.set(name, value)


def main():
    host, port, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    client = statsd.StatsClient(host, port, prefix=PREFIX, maxudpsize=1400)
    pipeline = None
    for number in range(count):
        if number % (10 * PIPELINE_OPERATIONS) == 0:
            pipeline = client.pipeline()
        kind, name, value = pick(rng)
        send(pipeline or client, kind, name, value)
        print(json.dumps({"kind": kind, "name": f"{PREFIX}.{name}", "tags": {}, "value": value}))
        if pipeline and number % PIPELINE_OPERATIONS == PIPELINE_OPERATIONS - 1:
            pipeline.send()
            pipeline = None
        if number % PAUSE_EVERY == 0:
            time.sleep(PAUSE_SECS)
    if pipeline:
        pipeline.send()


main()
