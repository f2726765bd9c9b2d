"""What people write by hand: read a WebSocket, parse, commit to SQLite with synchronous = FULL.

Standard library only. Everything that has arrived is one transaction, so the disk sets the pace and
not the number of rows. Prints the quantiles of (committed - due), the due time being in each frame.
"""

import base64
import datetime
import json
import os
import socket
import sqlite3
import sys
import time


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


def main():
    port, path = int(sys.argv[1]), sys.argv[2]
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, price REAL, qty REAL, side TEXT, ts TEXT)")
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
    late = []
    while True:
        received = sock.recv(1 << 20)
        if not received:
            break
        buffer += received
        rows = []
        for text in frames(buffer):
            message = json.loads(text)
            if message.get("channel") == "trade":
                for t in message["data"]:
                    rows.append((t["trade_id"], t["symbol"], t["price"], t["qty"], t["side"], t["timestamp"]))
        if not rows:
            continue
        db.execute("BEGIN")
        db.executemany("INSERT OR IGNORE INTO trades VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        now = time.time_ns()
        late.extend(now - due_ns(row[5]) for row in rows)
    late.sort()

    def q(share):
        return late[min(len(late) - 1, int(len(late) * share))] / 1e6

    if late:
        print(f"p50 {q(0.5):.2f} ms  p99 {q(0.99):.2f} ms  p99.9 {q(0.999):.2f} ms  max {late[-1] / 1e6:.2f} ms  {len(late)} recorded")
    else:
        print("nothing recorded")


main()
