"""The pod that runs load.py."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.kubernetes import Cluster, until
from tests.cluster.work import KEPT

NAME = "load"


class Load:
    """A constant load from inside the cluster while the block runs.

    Args:
        cluster: Where.
        rate: Calls a second.
    """

    def __init__(self, cluster: Cluster, rate: float = 20) -> None:
        self._cluster = cluster
        self._rate = rate
        self._result: dict[str, Any] | None = None

    def __enter__(self) -> Load:
        self._remove()
        script = str(Path(__file__).with_name("load.py"))
        self._cluster.kubectl("create", "configmap", NAME, f"--from-file=load.py={script}")
        self._cluster.kubectl("apply", "-f", "-", given=json.dumps(self._pod()))
        until(self._began, 180, "the first calls of the load")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self._cluster.kubectl("exec", NAME, "--", "python", "-c", "open('/tmp/stop', 'w').close()")
            until(lambda: self._cluster.get("pod", NAME)["status"]["phase"] == "Succeeded", 180, "the end of the load")
            self._result = json.loads(self._cluster.kubectl("logs", NAME).splitlines()[-1])
        finally:
            if error is None:  # else its log tells more
                self._remove()

    def result(self) -> dict[str, Any]:
        """How many calls there were, and those that failed."""
        assert self._result is not None
        return self._result

    def calls(self, count: int) -> None:
        """Waits until about so many calls were made."""
        time.sleep(count / self._rate)

    def _began(self) -> bool:
        return "calling" in self._cluster.kubectl("logs", NAME, check=False)

    def _remove(self) -> None:
        self._cluster.kubectl("delete", f"pod/{NAME}", f"configmap/{NAME}", "--ignore-not-found", "--grace-period=1")

    def _pod(self) -> dict[str, Any]:
        runs = self._cluster.get("deployment", f"{self._cluster.release}-runs")["spec"]["template"]["spec"]
        container = runs["containers"][0]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            # The label that docs/install.md asks clients for.
            "metadata": {"name": NAME, "labels": {"nesycd.dev/client": "true"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "imagePullSecrets": runs.get("imagePullSecrets", []),
                "securityContext": runs["securityContext"],
                "containers": [
                    {
                        "name": NAME,
                        "image": container["image"],
                        "imagePullPolicy": container["imagePullPolicy"],
                        "command": ["python", "/load/load.py", self._cluster.release, KEPT, str(self._rate)],
                        "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "96Mi"},
                            "limits": {"cpu": "1", "memory": "256Mi"},
                        },
                        "securityContext": container["securityContext"],
                        "volumeMounts": [{"name": "load", "mountPath": "/load"}, {"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "load", "configMap": {"name": NAME}}, {"name": "tmp", "emptyDir": {}}],
            },
        }
