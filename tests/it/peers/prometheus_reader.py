"""Reads the text of /metrics on its input as a Prometheus client does, and prints each sample as a line of JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

seen = set()
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in seen, f"{family.name} comes twice"
    seen.add(family.name)
    assert family.type in ("counter", "gauge"), f"{family.name} is {family.type}"
    assert family.documentation, f"{family.name} has no help"
    lines = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
    assert len(lines) == len(set(lines)), f"{family.name} has the same line twice"
    for sample in family.samples:
        print(json.dumps({"name": sample.name, "labels": sample.labels, "value": sample.value}))
