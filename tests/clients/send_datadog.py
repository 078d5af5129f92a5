"""Sends pseudo-random operations through DogStatsd of the unmodified Python package "datadog".

Usage: send_datadog.py HOST PORT SEED COUNT

Prints one JSON line per operation, {"kind", "name", "tags", "value"}: what was meant, from which the test
makes its own tally. Buffering and the client's own telemetry are on, as its users have them; histograms and
distributions are timers to us. The pace is kept below what loopback could drop.
"""

import json
import random
import sys
import time

from datadog.dogstatsd import DogStatsd

PREFIX = "dogstatsd"
NAMES = ["orders", "checkout.cart-top"]
SHOPS = ["paris", "la_rochelle"]
PLANS = ["pro"]
METHODS = ["increment", "decrement", "gauge", "histogram", "distribution", "timing", "set"]
WEIGHTS = [25, 5, 15, 15, 10, 15, 15]
PAUSE_EVERY = 20
PAUSE_SECS = 0.001


def pick_tags(rng):
    """None, one or two tags, in either order: the series does not depend on it."""
    tags = [("shop", rng.choice(SHOPS)), ("plan", rng.choice(PLANS))]
    rng.shuffle(tags)
    return tags[: rng.choice([0, 1, 2])]


def send(client, rng, method, tags):
    """Sends one operation; returns what it means: kind, name and value."""
    kind = {"increment": "counter", "decrement": "counter", "gauge": "gauge", "set": "set"}.get(method, "timer")
    name = f"{method if kind == 'timer' else kind}.{rng.choice(NAMES)}"
    if kind == "counter":
        value = rng.choice([1, 1, 1, 4, 0.25, 99_000])
    elif kind == "set":
        value = f"user-{rng.randint(1, 150)}"
    elif kind == "timer":
        value = round(rng.expovariate(1 / 80), 4)
    else:
        value = round(rng.uniform(0, 5_000), 2)
    getattr(client, method)(name, value, tags=[f"{key}:{text}" for key, text in tags])
    return kind, name, -value if method == "decrement" else value


def main():
    host, port, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    client = DogStatsd(host=host, port=port, namespace=PREFIX, disable_buffering=False)
    for number in range(count):
        tags = pick_tags(rng)
        method = rng.choices(METHODS, WEIGHTS)[0]
        kind, name, value = send(client, rng, method, tags)
        print(json.dumps({"kind": kind, "name": f"{PREFIX}.{name}", "tags": dict(tags), "value": value}))
        if number % PAUSE_EVERY == 0:
            time.sleep(PAUSE_SECS)
    client.flush()
    client.stop()


main()
