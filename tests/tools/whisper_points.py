"""Prints what stands in whisper files: `path timestamp value`, a line each.

Arguments: the directory, the first part of the paths that are wanted (`stats.counters.shop`), and two timestamps,
of which the first is left out. Runs under Debian's own Python, which has the whisper module.
"""

import os
import struct
import sys
import time

import whisper


def points(file, since, until):
    # A file that carbon is just making is not whole yet.
    try:
        (first, _, step), values = whisper.fetch(file, since, until)
    except (whisper.CorruptWhisperFile, struct.error, OSError):
        return
    for at, value in enumerate(values):
        if value is not None:
            yield first + at * step, value


def main(root, prefix, since, until):
    for folder, _, names in os.walk(root):
        for name in names:
            file = os.path.join(folder, name)
            path = os.path.relpath(file, root)[: -len(".wsp")].replace(os.sep, ".")
            if not name.endswith(".wsp") or not path.startswith(prefix):
                continue
            for timestamp, value in points(file, since, min(until, int(time.time()))):
                sys.stdout.write(f"{path} {timestamp} {value!r}\n")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
