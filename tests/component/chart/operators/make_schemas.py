"""Writes the schemas of the operators' objects that the chart makes: `python tests/component/chart/operators/make_schemas.py` (needs Go).

They are those of the operators' CustomResourceDefinitions, which are files of their Go modules, without descriptions and `status`, and
closed: the API server drops a field that it does not know without a word, where a test must see it. What is left out besides are
Kubernetes' own extensions, rules in CEL among them: only an API server knows these.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
Schema = dict[str, Any]
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
KEDA_AUTHORS = "Copyright The KEDA Authors"
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
PROMETHEUS_AUTHORS = "Copyright 2015 CoreOS, Inc; this product includes software developed at CoreOS, Inc."
KINDS = {
    "ScaledObject": (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml", KEDA_AUTHORS),
    "PodMonitor": (
        PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", PROMETHEUS_AUTHORS,
    ),
    "PrometheusRule": (
        PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml", PROMETHEUS_AUTHORS,
    ),
}  # fmt: skip
SCALERS = "schema/generated/scalers-schema.json"


def module(name: str) -> Path:
    """The folder of a Go module, fetched where it is not there yet."""
    done = subprocess.run(["go", "mod", "download", "-json", name], check=True, stdout=subprocess.PIPE, text=True)
    return Path(json.loads(done.stdout)["Dir"])


def closed(schema: Schema) -> Schema:
    """A schema that refuses what it does not name."""
    kept = {key: value for key, value in schema.items() if key != "description" and not key.startswith("x-kubernetes-")}
    if "properties" in kept:
        kept["properties"] = {name: closed(one) for name, one in kept["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    elif isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = closed(kept["additionalProperties"])
    if "items" in kept:
        kept["items"] = closed(kept["items"])
    return kept


def prometheus_scaler(keda: Path) -> Schema:
    """What KEDA's scaler "prometheus" reads of its metadata, which the CustomResourceDefinition leaves open."""
    scalers = json.loads((keda / SCALERS).read_text())["scalers"]
    (scaler,) = [one for one in scalers if one["type"] == "prometheus"]
    read = [one for one in scaler["parameters"] if one.get("metadataVariableReadable")]
    return {
        "properties": {one["name"]: {"type": "string"} for one in read},
        "required": [one["name"] for one in read if not one.get("optional") and "default" not in one],
        "additionalProperties": False,
    }


def make(kind: str) -> str:
    """The text of a kind's schema."""
    name, file, authors = KINDS[kind]
    folder = module(name)
    definition = yaml.safe_load((folder / file).read_text())["spec"]
    (version,) = [one for one in definition["versions"] if one["storage"]]
    schema = closed(version["schema"]["openAPIV3Schema"])
    properties = schema["properties"]
    properties.pop("status", None)
    properties["apiVersion"] = {"const": f"{definition['group']}/{version['name']}"}
    properties["kind"] = {"const": kind}
    if kind == "ScaledObject":
        properties["spec"]["properties"]["triggers"]["items"] |= {
            "if": {"properties": {"type": {"const": "prometheus"}}},
            "then": {"properties": {"metadata": prometheus_scaler(folder)}},
        }
    origin = f"Made of {file} in {name}. {authors}; Apache License 2.0."
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return json.dumps({"$comment": origin, **schema}, indent=1) + "\n"


if __name__ == "__main__":
    for kind in KINDS:
        (HERE / f"{kind}.json").write_text(make(kind))
