"""Before TensorFlow starts on several machines, the processes of a run meet.

TensorFlow wants the address of every process, waits in silence and for minutes for one that never
starts, and does not ask what the others were told. So the first process listens where the others
know it, and each of the others tells it who it is, where it can be found and what it was told. The
first answers with the addresses of all, or with what is wrong; then all of them raise the same.
Every wait has an end.

A message is a JSON object on a line. Nothing in it is run, and what is no message is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_resnets.checks import listed

_MOST = 1 << 20  # Bytes of a message.
_PAUSE = 0.5  # Seconds until a process knocks again.
_GRACE = 10.0  # Seconds that the first takes longer to give up than the others.

# A process that waits inside TensorFlow heeds neither signals nor Python's threads. So another one
# watches the clock; it ends when its input does, with the process that it watches.
_WATCH = """
import os, select, signal, sys
process, seconds, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGINT, signal.SIG_IGN)
if not select.select([sys.stdin], [], [], seconds)[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(process, signal.SIGKILL)
"""


def meet(
    index: int,
    count: int,
    coordinator: str,
    *,
    told: Mapping[str, Any],
    timeout: float,
    address: str | None = None,
) -> list[str]:
    """Waits for all processes of a run, and says where each of them is.

    Args:
        index: which one this is, from 0.
        count: how many there are.
        coordinator: `HOST:PORT` where the first listens, and TensorFlow on it afterwards.
        told: what all of them must have been told alike, by name.
        timeout: seconds after which a process gives up.
        address: `HOST:PORT` of this one; None for the host that the first sees, and a free port.

    Returns:
        `HOST:PORT` of each process.

    Raises:
        TimeoutError: if not all of them have come in time.
        ValueError: if they were told different things.
        OSError: if the first cannot listen.
    """
    told = {"number of processes": count, **told}
    if index == 0:
        return _receive(count, coordinator, address or coordinator, told, timeout)
    return _visit(index, coordinator, address, told, timeout)


def differences(by_process: Sequence[Mapping[str, Any]]) -> str:
    """What processes were told differently: `seed: 0 in process 0, 1 in process 1`; "" if nothing.

    Args:
        by_process: what each was told, by name.
    """
    names = dict.fromkeys(name for told in by_process for name in told)
    found = []
    for name in names:
        having: dict[str, list[str]] = {}
        for index, told in enumerate(by_process):
            value = repr(told[name]) if name in told else "nothing"
            having.setdefault(value, []).append(str(index))
        if len(having) > 1:
            values = (f"{value} in process {listed(who)}" for value, who in having.items())
            found.append(f"{name}: {', '.join(values)}")
    return "; ".join(found)


def require_same(by_process: Sequence[Mapping[str, Any]]) -> None:
    """Raises a ValueError, with what differs, unless all processes were told the same."""
    different = differences(by_process)
    if different:
        raise _told_differently(different)


@contextlib.contextmanager
def ended_after(seconds: float, message: str) -> Iterator[None]:
    """What is done here is done in time, or the process ends with a message."""
    watch = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(os.getpid()), str(seconds), message],
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        watch.communicate()  # Closes its input.


# The first ---------------------------------------------------------------------------------------


def _receive(
    count: int, coordinator: str, address: str, told: Mapping[str, Any], timeout: float
) -> list[str]:
    ends = time.monotonic() + timeout
    guests: dict[int, tuple[socket.socket, dict]] = {}
    try:
        with _listening(coordinator) as server:
            problem = _gather(server, guests, count, told, ends, timeout)
        if problem is None:
            everyone = [told, *(guests[i][1]["told"] for i in range(1, count))]
            different = differences(everyone)
            problem = _told_differently(different) if different else None
        addresses = [address, *(guests[i][1]["address"] for i in sorted(guests))]
        answer = {"workers": addresses}
        if problem is not None:
            answer = {"error": str(problem), "kind": type(problem).__name__}
        for connection, _ in guests.values():
            with contextlib.suppress(OSError):
                _send(connection, answer)
        if problem is not None:
            raise problem
        for connection, _ in guests.values():
            # The guest closes first, so that the port is free for TensorFlow.
            with contextlib.suppress(OSError):
                _read(connection, time.monotonic() + 5)
        return addresses
    finally:
        for connection, _ in guests.values():
            connection.close()


def _listening(coordinator: str) -> socket.socket:
    port = int(coordinator.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the first process must be able to listen at its port ({error.strerror}). Choose a "
            f"free one. Received: coordinator={coordinator!r}",
        ) from error


def _gather(
    server: socket.socket,
    guests: dict[int, tuple[socket.socket, dict]],
    count: int,
    told: Mapping[str, Any],
    ends: float,
    timeout: float,
) -> Exception | None:
    """Fills in the guests, until all are there or something is wrong, which is returned."""
    while len(guests) < count - 1:
        left = ends - time.monotonic()
        if left <= 0:
            missing = [str(i) for i in range(1, count) if i not in guests]
            return TimeoutError(
                f"all {count} processes of a run must start within {timeout:g} s of each other. "
                f"Missing: process {listed(missing)}. See what they printed, and that they are "
                "given the same coordinator; --start-timeout waits longer"
            )
        server.settimeout(left)
        try:
            connection, peer = server.accept()
        except TimeoutError:
            continue
        hello = _read(connection, time.monotonic() + 5)
        if hello is None or hello.keys() != {"index", "address", "port", "told"}:
            connection.close()
            continue
        index = hello["index"]
        before = guests.get(index)
        twice = index == 0 or (before is not None and not _is_gone(before[0]))
        hello["address"] = hello["address"] or _joined(peer[0], hello["port"])
        if before is None or not twice:
            guests[index] = (connection, hello)
        different = differences([told, hello["told"]])
        if hello["told"]["number of processes"] != count:
            return _told_differently(different)
        if twice or index >= count:
            problem = ValueError(
                "every process of a run must have a number of its own, from 0 to below "
                f"{count}. Received: process_id={index} from two processes"
            )
            with contextlib.suppress(OSError), connection:
                _send(connection, {"error": str(problem), "kind": "ValueError"})
            return problem
    return None


def _told_differently(different: str) -> ValueError:
    return ValueError(f"all processes of a run must be told the same. Received: {different}")


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which it has nothing to say."""
    return bool(select.select([connection], [], [], 0)[0])


# The others --------------------------------------------------------------------------------------


def _visit(
    index: int, coordinator: str, address: str | None, told: Mapping[str, Any], timeout: float
) -> list[str]:
    host, _, port = coordinator.rpartition(":")
    ends = time.monotonic() + timeout
    reason: object = "nobody answers"
    with socket.create_server(("", 0)) as server:
        free = server.getsockname()[1]
    hello = {"index": index, "address": address, "port": free, "told": told}
    while time.monotonic() < ends:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as connection:
                _send(connection, hello)
                # From here on the first decides, which may have begun to wait later.
                answer = _read(connection, time.monotonic() + timeout + _GRACE)
        except OSError as error:
            answer, reason = None, error.strerror or error
        if answer is None:
            time.sleep(_PAUSE)
            continue
        if "error" in answer:
            kind = TimeoutError if answer["kind"] == "TimeoutError" else ValueError
            raise kind(answer["error"])
        return answer["workers"]
    raise TimeoutError(
        f"the first process must be found at its address within {timeout:g} s ({reason}). See what "
        f"it printed, and that its port is open. Received: coordinator={coordinator!r}"
    )


# Messages ----------------------------------------------------------------------------------------


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket, ends: float) -> dict | None:
    """The message on a connection; None if there is none, or the connection is closed."""
    received = b""
    while not received.endswith(b"\n") and len(received) < _MOST:
        left = ends - time.monotonic()
        if left <= 0:
            return None
        connection.settimeout(left)
        try:
            more = connection.recv(1 << 16)
        except OSError:
            return None
        if not more:
            return None
        received += more
    try:
        message = json.loads(received)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _joined(host: str, port: int) -> str:
    """`HOST:PORT`; an IPv4 address that came over IPv6 is itself, any other of IPv6 in brackets."""
    host = re.sub(r"^::ffff:(?=\d+\.)", "", host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
