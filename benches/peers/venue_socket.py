"""The venue's socket as a script reads it: WebSocket frames, the subscription to trades, the due time in each. Standard library only."""

import base64
import datetime
import os
import socket


def due_ns(text):
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def frames(buffer):
    """Whole text frames at the start of the buffer, and what is left."""
    at, found = 0, []
    while len(buffer) - at >= 2:
        length, head = buffer[at + 1] & 0x7F, 2
        if length == 126:
            if len(buffer) - at < 4:
                break
            length, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
        elif length == 127:
            if len(buffer) - at < 10:
                break
            length, head = int.from_bytes(buffer[at + 2 : at + 10], "big"), 10
        if len(buffer) - at < head + length:
            break
        if buffer[at] & 0x0F == 1:
            found.append(bytes(buffer[at + head : at + head + length]))
        at += head + length
    del buffer[:at]
    return found


def send(sock, text):
    payload = text.encode()
    mask = os.urandom(4)
    head = bytes([0x81, 0x80 | len(payload)]) if len(payload) < 126 else bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big")
    sock.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))


def subscribed(port):
    """A socket that trades will come from, and what has been read of them."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    buffer = bytearray()
    while b"\r\n\r\n" not in buffer:
        buffer += sock.recv(65536)
    del buffer[: buffer.index(b"\r\n\r\n") + 4]
    send(sock, '{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]},"req_id":1}')
    return sock, buffer
