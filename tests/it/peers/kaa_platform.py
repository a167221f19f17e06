"""Plays a 1/KP platform behind a broker: takes telemetry requests, writes them down, answers by rules.

Written from the protocol's text alone; shares no code with the daemon's dialect. Every sample is on
its way to the log before its request is answered.

Lines of the log, one per sample:
`{"request", "token", "id", "sample", "resent", "verdict", "code"?}`; `request` counts the requests
that came in, `verdict` is `accepted` (answered `/status`), `refused` (answered `/error`) or
`unanswered`; `resent` tells that the same sample was accepted before.
`{"violation": WHY, "topic": ...}` for whatever 1/KP does not allow.

Rules (all optional), as a command `{"rules": {...}}` which replaces the ones before, or as a JSON
file named by --rules:
  "confirm": false             no request is answered
  "silent_tokens": [T, ...]    requests of these tokens are not answered
  "refuse_all": CODE           every request is answered `/error`
  "refuse_tokens": {T: CODE}   requests of these tokens are
  "poison_key": NAME           an array with a sample that has this member is refused (400) as a whole
  "answer_as": {T: U}          requests of token T are answered under token U
  "reason": TEXT               the reason of refusals; {token} in it is the request's token
  "error_hex": HEX             the payload of refusals, byte by byte
  "status_delay_ms": N         answers wait
Other commands: `{"publish": {"topic": T, "payload": TEXT}}` publishes anything, at QoS 1.
"""

import argparse
import json
import re
import threading

from peer import Log, add_broker_arguments, connect, say, serve_commands

REQUEST = re.compile(r"kp1/([^/+#.]+)/([^/+#.]+)/([^/+#.]+)/(.+)")
REASONS = {
    400: "the platform cannot digest this",
    401: "who are you",
    403: "not allowed",
    404: "no such endpoint",
    429: "slower",
    503: "come back later",
}


class Violation(Exception):
    """A request that 1/KP does not allow."""


def parse(topic, payload):
    """Token, request id (or None) and samples of a telemetry request."""
    path = REQUEST.fullmatch(topic)
    if path is None:
        raise Violation("not a path of 1/KP")
    _application, extension, token, resource = path.groups()
    if extension != "dcx":
        raise Violation(f"no such extension: {extension}")
    resource, _, number = resource.partition("/")
    if resource != "json":
        raise Violation(f"no such resource: {resource}")
    request_id = None
    if number:
        if not re.fullmatch(r"[1-9][0-9]*", number) or int(number) > 2**31 - 1:
            raise Violation(f"no request id: {number}")
        request_id = int(number)
    try:
        samples = json.loads(payload.decode("utf-8"), parse_constant=lambda word: bad_number(word))
    except ValueError as error:
        raise Violation(f"not JSON: {error}") from error
    if not isinstance(samples, list) or not samples:
        raise Violation("not an array of samples")
    for sample in samples:
        if not isinstance(sample, dict):
            raise Violation("a sample that is no object")
        if not isinstance(sample.get("timestamp"), int):
            raise Violation("a sample without a timestamp in ms")
    return token, request_id, samples


def bad_number(word):
    """NaN and the infinities are no JSON."""
    raise ValueError(word)


class Platform:
    """What was accepted so far, and the rules."""

    def __init__(self, log, rules_file):
        self.log = log
        self.rules_file = rules_file
        self.rules_read = None
        self.rules = {}
        self.requests = 0
        self.accepted = set()
        self.seen = {}

    def current_rules(self):
        """The rules, read again where their file has changed."""
        if self.rules_file:
            with open(self.rules_file, encoding="utf-8") as file:
                text = file.read()
            if text != self.rules_read:
                self.rules_read, self.rules = text, json.loads(text)
        return self.rules

    def take(self, client, publish):
        """One publish under `kp1/`."""
        topic = publish.topic
        if topic.endswith(("/status", "/error")):
            return  # answers, ours: the broker echoes them
        try:
            if publish.qos != 1:
                raise Violation(f"QoS {publish.qos}")
            if publish.retain:
                raise Violation("retained")
            token, request_id, samples = parse(topic, publish.payload)
            # The same request may be delivered twice; another one under the same id may not.
            if self.seen.setdefault((token, request_id), hash(publish.payload)) != hash(publish.payload):
                raise Violation("a request id used twice")
        except Violation as why:
            self.log.write(violation=str(why), topic=topic)
            return
        self.requests += 1
        code, reason, verdict = self.judge(token, samples)
        entries = []
        for sample in samples:
            identity = (token, json.dumps(sample, sort_keys=True))
            entry = {
                "request": self.requests,
                "token": token,
                "id": request_id,
                "sample": sample,
                "resent": identity in self.accepted,
                "verdict": verdict,
            }
            if verdict == "accepted":
                self.accepted.add(identity)
            if verdict == "refused":
                entry["code"] = code
            entries.append(entry)
        self.log.write_all(entries)
        self.answer(client, topic, token, request_id, code, reason, verdict)

    def judge(self, token, samples):
        """Code, reason and verdict by the rules."""
        rules = self.current_rules()
        if not rules.get("confirm", True) or token in rules.get("silent_tokens", []):
            return None, None, "unanswered"
        code = rules.get("refuse_all") or rules.get("refuse_tokens", {}).get(token)
        if code:
            return code, REASONS.get(code, "refused"), "refused"
        poison = rules.get("poison_key")
        if poison is not None and any(poison in sample for sample in samples):
            return 400, REASONS[400], "refused"
        return 200, None, "accepted"

    def answer(self, client, topic, token, request_id, code, reason, verdict):
        """`/status` or `/error`, as the verdict is."""
        rules = self.current_rules()
        posing_as = rules.get("answer_as", {}).get(token)
        if posing_as is not None:
            topic = topic.replace(f"/{token}/", f"/{posing_as}/", 1)
        if verdict == "accepted" and request_id is not None:
            reply = (topic + "/status", b"")
        elif verdict == "refused":
            reason = rules.get("reason", reason).replace("{token}", token)
            body = json.dumps({"statusCode": code, "reasonPhrase": reason}).encode()
            if "error_hex" in rules:
                body = bytes.fromhex(rules["error_hex"])
            reply = (topic + "/error", body)
        else:
            return
        delay = rules.get("status_delay_ms", 0)
        if delay:
            timer = threading.Timer(delay / 1000, client.publish, reply, {"qos": 1})
            timer.daemon = True
            timer.start()
        else:
            client.publish(*reply, qos=1)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_broker_arguments(parser)
    parser.add_argument("--rules")
    args = parser.parse_args()
    platform = Platform(Log(args.log), args.rules)
    client = connect(args, "kp1/#", platform.take)

    def act(command):
        match command:
            case {"rules": rules}:
                platform.rules = rules
            case {"publish": {"topic": topic, "payload": payload}}:
                client.publish(topic, payload.encode(), qos=1).wait_for_publish(30)
            case _:
                raise ValueError(f"no such command: {command}")

    say("ready")
    serve_commands(act)


if __name__ == "__main__":
    main()
