"""Messages arrive as they were sent, and rubbish is told from messages."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tuner.measure import channel


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_messages_arrive_in_order_and_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    messages: list[dict[str, Any]] = [{"text": "Größe"}, {"large": "x" * 3_000_000}, {"list": [1.5, None]}]

    def send_all() -> None:
        for message in messages:
            channel.send(ends[0], message)

    sender = threading.Thread(target=send_all)
    sender.start()
    assert [channel.receive(ends[1]) for _ in messages] == messages
    sender.join()


@pytest.mark.parametrize("rest", [b"", b"\x10", b"\x10\x00\x00\x00{"])
def test_the_end_of_the_stream_is_none_wherever_it_comes(
    ends: tuple[socket.socket, socket.socket], rest: bytes
) -> None:
    ends[0].sendall(rest)
    ends[0].close()
    assert channel.receive(ends[1]) is None


@pytest.mark.parametrize(
    "rubbish", [b"\xff\xff\xff\xff", b"\x03\x00\x00\x00{x}", b"\x02\x00\x00\x00[]", b"\x01\x00\x00\x00\xff"]
)
def test_rubbish_is_a_value_error(ends: tuple[socket.socket, socket.socket], rubbish: bytes) -> None:
    ends[0].sendall(rubbish)
    with pytest.raises(ValueError, match=r".+"):
        channel.receive(ends[1])


def test_a_number_that_json_does_not_have_is_not_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        channel.send(ends[0], {"error": float("nan")})
