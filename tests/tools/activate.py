"""Stands in for systemd: opens sockets, and runs a program with them, again and again.

    activate.py NAME=KIND:PORT[:BYTES]… -- PROGRAM ARGUMENTS…

KIND is udp or tcp; all on 127.0.0.1, with a receive buffer of so many bytes, as far as the kernel lets us. The
sockets stay open here while the program is away. Each run is told on stdout: "run PID", and "ended CODE" when it is
over; a second later, or ACTIVATE_PAUSE seconds, the next one begins.
"""

import os
import socket
import sys
import time

FIRST_FD = 3
PAUSE = float(os.environ.get("ACTIVATE_PAUSE", "1"))
# Beyond net.core.rmem_max, for those who may.
SO_RCVBUFFORCE = 33


def enlarge(one, wanted):
    for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
        try:
            one.setsockopt(socket.SOL_SOCKET, option, wanted)
            return
        except PermissionError:
            pass


def opened(text):
    name, place = text.split("=")
    kind, port, *size = place.split(":")
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if size:
        enlarge(one, int(size[0]))
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
        time.sleep(PAUSE)


main(sys.argv[1:])
