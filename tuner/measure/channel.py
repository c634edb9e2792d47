"""Messages between the tuner and its measuring process: JSON behind a four-byte length, over one private socket."""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

_LENGTH = struct.Struct("<I")
_LONGEST = 1 << 28  # bytes; a longer frame can only be rubbish that a broken process wrote


def send(stream: socket.socket, message: Mapping[str, Any]) -> None:
    """Write one message. Raises OSError when the other side is gone."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    stream.sendall(_LENGTH.pack(len(body)) + body)


def receive(stream: socket.socket) -> dict[str, Any] | None:
    """Read one message; None when the other side has closed. Raises ValueError when what arrives is no message."""
    header = _read(stream, _LENGTH.size)
    if header is None:
        return None
    (length,) = _LENGTH.unpack(header)
    if length > _LONGEST:
        raise ValueError(f"a message of {length} bytes is longer than any this program sends")
    body = _read(stream, length)
    if body is None:
        return None
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, not {type(message).__name__}")
    return message


def _read(stream: socket.socket, size: int) -> bytes | None:
    """Exactly ``size`` bytes, or None when the stream ends before."""
    data = bytearray()
    while len(data) < size:
        chunk = stream.recv(min(size - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
