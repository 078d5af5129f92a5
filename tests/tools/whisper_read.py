"""Says of every whisper file below a directory how it was made, and what each of its archives holds.

Prints one JSON object: path relative to the directory, without the ending, to
{"method", "x_files_factor", "archives": [{"width", "keep", "sum", "least", "largest"}]}; an archive without
values has null for the last three. Runs under Debian's own Python, which has the whisper module.
"""

import json
import os
import sys
import time

import whisper


def archive(path, width, points):
    until = int(time.time()) + 2 * width
    _, values = whisper.fetch(path, until - width * points, until, archiveToSelect=width)
    known = [value for value in values if value is not None]
    return {
        "width": width,
        "keep": width * points,
        "sum": sum(known) if known else None,
        "least": min(known, default=None),
        "largest": max(known, default=None),
    }


def describe(path):
    info = whisper.info(path)
    return {
        "method": info["aggregationMethod"],
        "x_files_factor": info["xFilesFactor"],
        "archives": [
            archive(path, each["secondsPerPoint"], each["points"]) for each in info["archives"]
        ],
    }


def main(root):
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(".wsp"):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root)[: -len(".wsp")]] = describe(path)
    json.dump(found, sys.stdout)


main(sys.argv[1])
