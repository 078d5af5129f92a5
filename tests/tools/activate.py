"""Stands in for systemd: opens sockets, and runs a program with them, again and again.

    activate.py NAME=KIND:PORT… -- PROGRAM ARGUMENTS…

KIND is udp or tcp; all on 127.0.0.1. The sockets stay open here while the program is away. Each run is told on
stdout: "run PID", and "ended CODE" when it is over; a second later the next one begins.
"""

import os
import socket
import sys
import time

FIRST_FD = 3


def opened(text):
    name, place = text.split("=")
    kind, port = place.split(":")
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    one.bind(("127.0.0.1", int(port)))
    if kind == "tcp":
        one.listen()
    return name, one


def run(names, fds, command):
    pid = os.fork()
    if pid == 0:
        # Out of the way first: a socket may have the number that another one is to get.
        high = [os.dup(fd) for fd in fds]
        for place, fd in enumerate(high):
            os.dup2(fd, FIRST_FD + place, inheritable=True)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(fds))
        os.environ["LISTEN_FDNAMES"] = ":".join(names)
        os.execv(command[0], command)
    print("run", pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)


def main(arguments):
    border = arguments.index("--")
    sockets = [opened(text) for text in arguments[:border]]
    # Numbers beyond those that the program is given.
    while True:
        run([name for name, _ in sockets], [one.fileno() for _, one in sockets], arguments[border + 1 :])
        time.sleep(1)


main(sys.argv[1:])
