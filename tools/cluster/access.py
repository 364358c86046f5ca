"""Talk to what runs on the cluster, the same way on every cluster: kubectl, Helm, port-forwards and HTTP."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.cluster.console import Failure, run, wait_for
from tools.cluster.programs import find


class Access:
    """The cluster behind one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 600) -> str:
        """Run kubectl and return what it printed."""
        command = [find("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        return run(command, stdin=stdin, timeout_seconds=timeout_seconds)

    def get(self, kind: str, name: str, namespace: str) -> Any:
        """Return one object as parsed JSON, or None when it is not there."""
        text = self.kubectl("get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text.strip() else None

    def get_all(self, kind: str, selector: str, namespace: str) -> list[Any]:
        """Return the objects of a kind that a label selector selects, as parsed JSON."""
        text = self.kubectl("get", kind, "--selector", selector, "--namespace", namespace, "--output", "json")
        return list(json.loads(text)["items"])

    def helm(self, *arguments: str, timeout_seconds: float = 900) -> str:
        """Run Helm and return what it printed."""
        return run([find("helm"), "--kubeconfig", self.kubeconfig, *arguments], timeout_seconds=timeout_seconds)

    @contextmanager
    def forward(self, target: str, port: int, namespace: str) -> Iterator[str]:
        """Yield a URL on this machine that leads to a port of a Service or pod, e.g. `service/obs-mlflow`.

        Raises:
            Failure: the port-forward does not start.
        """
        command = [str(find("kubectl")), "--kubeconfig", str(self.kubeconfig), "--namespace", namespace]
        command += ["port-forward", "--address", "127.0.0.1", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                line = process.stdout.readline()  # Forwarding from 127.0.0.1:40123 -> 8000
                if not line:
                    said = process.stderr.read().strip()
                    raise Failure(f"port-forward to {target} failed: {said}\nRun make up: it starts what does not run.")
                yield f"http://{line.split(' -> ')[0].rpartition(' ')[2]}"
            finally:
                process.terminate()
                process.communicate()


def http(url: str, body: Any = None, timeout_seconds: float = 60, key: str = "") -> Any:
    """Return the parsed JSON that an address answers to GET, or to POST when there is a body, with an API key if any.

    Raises:
        Failure: no answer, or a status of 400 or above; with the status and the answer.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own URLs
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise Failure(f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise Failure(f"{url}: {error}") from error


def promql(prometheus: str, query: str) -> list[dict[str, Any]]:
    """Return the series that a PromQL query selects, as Prometheus' HTTP API gives them."""
    answer = http(f"{prometheus}/api/v1/query?{urlencode({'query': query})}")
    return list(answer["data"]["result"])


def wait_for_series(prometheus: str, query: str, timeout_seconds: float = 300) -> list[dict[str, Any]]:
    """Return the series of a query as soon as it selects any.

    Raises:
        Failure: none within `timeout_seconds`.
    """
    found: list[dict[str, Any]] = []

    def probe() -> bool:
        found[:] = promql(prometheus, query)
        return bool(found)

    remedy = "Look at Prometheus' targets page for the reason."
    wait_for(f"series for {query}", probe, timeout_seconds=timeout_seconds, remedy=remedy)
    return found
