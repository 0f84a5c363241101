"""Processes meet before TensorFlow starts, or all of them say what is in the way."""

import socket
import subprocess
import sys
import threading

import pytest
from processes import child_environment

from keras_resnets.training import meeting


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def met(*processes: dict, timeout: float = 20) -> list:
    """What `meet` returns or raises in each process, here a thread of its own."""
    results = [None] * len(processes)
    coordinator = free_address()

    def come(i: int) -> None:
        given = dict(index=i, count=len(processes), told={}, timeout=timeout) | processes[i]
        try:
            results[i] = meeting.meet(coordinator=coordinator, **given)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=come, args=(i,), daemon=True) for i in range(len(processes))]
    for thread in reversed(threads):  # The first comes last.
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    results.append(coordinator)
    return results


@pytest.mark.long
def test_all_learn_where_all_are():
    *results, coordinator = met({}, {"address": "there:1"}, {})
    assert results[0] == results[1] == results[2]
    assert results[0][:2] == [coordinator, "there:1"]
    host, port = results[0][2].rsplit(":", 1)
    assert host == "127.0.0.1"
    assert int(port) > 0


@pytest.mark.long
def test_the_port_is_free_afterwards():
    *_, coordinator = met({}, {})
    with socket.create_server(("127.0.0.1", int(coordinator.rpartition(":")[2]))):
        pass


@pytest.mark.long
def test_what_was_told_differently_is_said_to_all():
    versions = [{"keras": "3.14"}, {"keras": "3.15"}, {"keras": "3.14"}]
    *results, _ = met(*({"told": told} for told in versions))
    for error in results:
        assert isinstance(error, ValueError)
        assert "keras: '3.14' in process 0, 2, '3.15' in process 1" in str(error)


@pytest.mark.long
def test_another_number_of_processes_is_told_differently():
    *results, _ = met({}, {"count": 3}, timeout=5)
    for error in results:
        assert isinstance(error, ValueError)
        assert "number of processes: 2 in process 0, 3 in process 1" in str(error)


@pytest.mark.long
def test_two_with_the_same_number_are_refused():
    *results, _ = met({}, {}, {"index": 1}, timeout=3)
    assert all("process_id=1 from two processes" in str(error) for error in results)


@pytest.mark.long
def test_one_that_never_starts_is_named_to_those_that_wait():
    *results, _ = met({"count": 3}, {"count": 3}, timeout=2)
    for error in results:
        assert isinstance(error, TimeoutError)
        assert "all 3 processes of a run must start within 2 s" in str(error)
        assert "Missing: process 2." in str(error)


@pytest.mark.long
def test_a_first_that_never_starts_is_not_waited_for_for_ever():
    with pytest.raises(TimeoutError, match="the first process must be found at its address"):
        meeting.meet(1, 2, free_address(), told={}, timeout=1)


@pytest.mark.long
def test_a_port_that_is_taken_is_said():
    with (
        socket.create_server(("", 0)) as server,
        pytest.raises(OSError, match=r"must be able to listen at its port .* coordinator="),
    ):
        meeting.meet(0, 2, f"localhost:{server.getsockname()[1]}", told={}, timeout=1)


@pytest.mark.long
@pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\n", b'{"index": 1}\n', b"[1]\n"])
def test_what_is_no_message_is_passed_over(noise):
    coordinator = free_address()
    found = []
    first = threading.Thread(
        target=lambda: found.append(meeting.meet(0, 2, coordinator, told={}, timeout=20)),
        daemon=True,
    )
    first.start()
    host, port = coordinator.split(":")
    for _ in range(100):
        try:
            with socket.create_connection((host, int(port)), timeout=5) as stranger:
                stranger.sendall(noise)
            break
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    other = meeting.meet(1, 2, coordinator, told={}, timeout=20)
    first.join(20)
    assert found == [other]


@pytest.mark.long
def test_what_does_not_end_in_time_is_ended_with_a_message():
    code = """
import time
from keras_resnets.training import meeting
with meeting.ended_after(60, "too long"):
    pass
with meeting.ended_after(1, "a port is closed"):
    time.sleep(100)
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=90,
    )
    assert process.returncode == -9
    assert "a port is closed" in process.stderr
    assert "too long" not in process.stderr
