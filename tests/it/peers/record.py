"""Subscribes and writes down every publish, in the order of arrival.

Lines of the log: `{"topic", "payload", "qos", "retain", "dup"}`; a payload that is not UTF-8 comes
as `"base64"` instead.
"""

import argparse
import base64

from peer import Log, add_broker_arguments, connect, say, serve_commands


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_broker_arguments(parser)
    parser.add_argument("--filter", required=True)
    args = parser.parse_args()
    log = Log(args.log)

    def take(_client, publish):
        entry = {"topic": publish.topic, "qos": publish.qos, "retain": publish.retain, "dup": publish.dup}
        try:
            entry["payload"] = publish.payload.decode("utf-8")
        except UnicodeDecodeError:
            entry["base64"] = base64.b64encode(publish.payload).decode()
        log.write(**entry)

    def act(command):
        raise ValueError(f"no such command: {command}")

    connect(args, args.filter, take)
    say("ready")
    serve_commands(act)


if __name__ == "__main__":
    main()
