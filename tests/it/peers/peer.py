"""What the Python peers share: the control line, the log, the connection to a broker over TLS.

A peer prints `ready ...` when it can be used, then reads commands, one JSON object a line, from
standard input and answers each with one line: `ok ...` when it is in effect, `failed WHY` otherwise.
It ends when standard input does, so that no peer outlives the test that started it. Deliberately
shares nothing with the daemon.
"""

import json
import os
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt


class Log:
    """A file of JSON lines, each on its way to the reader before `write` returns."""

    def __init__(self, path):
        self._file = open(path, "a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._order = 0

    def write(self, **entry):
        """Appends one line; `order` counts the lines."""
        self.write_all([entry])

    def write_all(self, entries):
        """Appends lines that no other line may come between."""
        with self._lock:
            lines = []
            for entry in entries:
                lines.append(json.dumps({"order": self._order, **entry}, separators=(",", ":")) + "\n")
                self._order += 1
            self._file.write("".join(lines))
            self._file.flush()


def say(line):
    """One line to the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve_commands(act):
    """Runs `act(command)` for each line of standard input, until it ends."""
    for line in sys.stdin:
        try:
            answer = act(json.loads(line))
        except Exception as error:  # the test decides what to make of it
            say(f"failed {error!r}".replace("\n", " "))
        else:
            say("ok" if answer is None else f"ok {answer}")
    os._exit(0)


def add_broker_arguments(parser):
    """Where the broker is, and who we are."""
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--client-id", required=True)


def connect(args, topic_filter, take):
    """A client with a persistent session at QoS 1 that comes back by itself; returns once subscribed."""
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=args.client_id, clean_session=False, protocol=mqtt.MQTTv311
    )
    client.tls_set(ca_certs=args.ca, certfile=args.cert, keyfile=args.key, tls_version=ssl.PROTOCOL_TLS_CLIENT)
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(10_000)
    client.max_queued_messages_set(0)
    subscribed = threading.Event()

    def on_connect(client, _userdata, _flags, reason, _properties):
        if not reason.is_failure:
            client.subscribe(topic_filter, qos=1)

    def on_message(client, _userdata, publish):
        take(client, publish)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    deadline = time.monotonic() + 60
    while True:
        try:
            client.connect("localhost", args.port, keepalive=60)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    client.loop_start()
    if not subscribed.wait(60):
        raise TimeoutError("the broker did not answer the subscription")
    return client
