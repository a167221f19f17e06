"""A broker over TLS that takes everything and confirms nothing.

It answers CONNECT, SUBSCRIBE and PINGREQ, and never PUBLISH: what a broker with a dead disk behind
it looks like. Lines of the log: `{"connected": N}`, `{"published": N, "topic": T}`, `{"gone": N}`,
N being the connection.
"""

import argparse
import socket
import ssl
import struct
import threading

from peer import Log, say, serve_commands

CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 10, 12, 14


def exactly(stream, count):
    """So many bytes, or the end."""
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def packet(stream):
    """Type and body of the next control packet (MQTT 3.1.1, 2.2)."""
    first = exactly(stream, 1)[0]
    length = shift = 0
    while True:
        byte = exactly(stream, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first >> 4, exactly(stream, length)


def serve(stream, number, log):
    """One connection, to its end."""
    kind, _ = packet(stream)
    if kind != CONNECT:
        return
    stream.sendall(b"\x20\x02\x00\x00")
    log.write(connected=number)
    while True:
        kind, body = packet(stream)
        if kind == PUBLISH:
            length = struct.unpack(">H", body[:2])[0]
            log.write(published=number, topic=body[2 : 2 + length].decode())
        elif kind == SUBSCRIBE:
            filters, at = 0, 2
            while at < len(body):
                at += 2 + struct.unpack(">H", body[at : at + 2])[0] + 1
                filters += 1
            stream.sendall(bytes([0x90, 2 + filters]) + body[:2] + b"\x01" * filters if filters < 126
                           else long_suback(body[:2], filters))
        elif kind == UNSUBSCRIBE:
            stream.sendall(b"\xb0\x02" + body[:2])
        elif kind == PINGREQ:
            stream.sendall(b"\xd0\x00")
        elif kind == DISCONNECT:
            return


def long_suback(packet_id, filters):
    """A SUBACK whose length takes two bytes."""
    length = 2 + filters
    return bytes([0x90, length & 0x7F | 0x80, length >> 7]) + packet_id + b"\x01" * filters


def attend(plain, number, context, log):
    """TLS around a connection, and its end in the log."""
    try:
        with context.wrap_socket(plain, server_side=True) as stream:
            serve(stream, number, log)
    except (OSError, ConnectionError):
        pass
    log.write(gone=number)


def accept_all(listener, context, log):
    """A thread for each connection."""
    number = 0
    while True:
        plain, _ = listener.accept()
        number += 1
        threading.Thread(target=attend, args=(plain, number, context, log), daemon=True).start()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--log", required=True)
    args = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.cert, args.key)
    context.load_verify_locations(args.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept_all, args=(listener, context, Log(args.log)), daemon=True).start()

    def act(command):
        raise ValueError(f"no such command: {command}")

    say(f"ready {listener.getsockname()[1]}")
    serve_commands(act)


if __name__ == "__main__":
    main()
