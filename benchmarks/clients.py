"""Clients on loopback connections: some that are paced, and some that ask as fast as they are answered."""

from __future__ import annotations

import itertools
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.stacks import PATH

Address = tuple[str, int]

PACE = 500
"""Requests per second of the paced run."""

PACED_CLIENTS = 4
SATURATING_CLIENTS = 8
LARGEST_ANSWER = 65536


@dataclass(frozen=True)
class Load:
    """
    What clients saw that asked as fast as they were answered.

    Attributes:
        per_second: Responses per second.
        p99: 99th percentile of the latency, milliseconds.
        longest: Longest latency, milliseconds.
    """

    per_second: float
    p99: float
    longest: float


def requests(companies: int) -> Iterator[bytes]:
    """Requests of so many companies in turn, for ever."""
    return itertools.cycle(
        [
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Company: company-{number}\r\nContent-Length: 0\r\n\r\n".encode()
            for number in range(companies)
        ]
    )


def saturated(address: Address, *, companies: int, seconds: float) -> Load:
    """
    Keep several connections busy, each with one request at a time.

    One thread serves them all: several would wait for each other, and the server for them.
    """
    asked, latencies = requests(companies), []
    connections = [_connected(address) for _ in range(SATURATING_CLIENTS)]
    by_number = {each.fileno(): each for each in connections}
    poll, sent, received = select.epoll(), {}, dict.fromkeys(by_number, b"")
    begun = now = time.perf_counter()
    for number, each in by_number.items():
        poll.register(number, select.EPOLLIN)
        each.sendall(next(asked))
        sent[number] = time.perf_counter()
    while now < begun + seconds:
        for number, _ in poll.poll():
            connection = by_number[number]
            piece = connection.recv(LARGEST_ANSWER)
            assert piece, "the server hung up"
            answer = received[number] + piece
            if not answer.endswith(b"}"):
                received[number] = answer
                continue
            assert answer.startswith(b"HTTP/1.1 200"), answer
            now = time.perf_counter()
            latencies.append(now - sent[number])
            received[number] = b""
            connection.sendall(next(asked))
            sent[number] = now
    took = now - begun
    poll.close()
    for each in connections:
        each.close()
    latencies.sort()
    return Load(
        per_second=len(latencies) / took,
        p99=latencies[int(len(latencies) * 0.99)] * 1000,
        longest=latencies[-1] * 1000,
    )


def paced(address: Address, *, companies: int, seconds: float) -> list[float]:
    """Seconds from when each request was due to when it was answered: what a client waits who does not wait in line."""
    latencies: list[float] = []
    asked = list(itertools.islice(requests(companies), int(PACE * seconds)))
    begin = time.perf_counter() + 0.05
    number = iter(range(len(asked)))

    def send() -> None:
        with _connected(address) as connection:
            for mine in number:  # each takes the next that is due
                due = begin + mine / PACE
                time.sleep(max(0.0, due - time.perf_counter()))
                _ask(connection, asked[mine])
                latencies.append(time.perf_counter() - due)

    threads = [threading.Thread(target=send) for _ in range(PACED_CLIENTS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return latencies


def first_byte(address: Address) -> float:
    """Seconds until the first byte of a stream's body."""
    with _connected(address) as connection:
        begun = time.perf_counter()
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while b"xxx" not in answer:
            piece = connection.recv(LARGEST_ANSWER)
            assert piece, "the server hung up"
            answer += piece
        return time.perf_counter() - begun


def worker(address: Address) -> dict[str, Any]:
    """What the worker says of itself; see `benchmarks.served_app`."""
    with _connected(address) as connection:
        answer = _ask(connection, b"GET /worker HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def _connected(address: Address) -> socket.socket:
    connection = socket.create_connection(address, timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _ask(connection: socket.socket, request: bytes) -> bytes:
    """Send *request*, and return its answer, which ends with a brace."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(LARGEST_ANSWER)
        assert piece, "the server hung up"
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return answer
