"""Access to the cluster of an environment; as a program, the credential plugin of kubectl and Helm.

GitHub's tokens are valid for minutes, and an upgrade can take longer. The plugin therefore requests one per command.
"""

import base64
import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure

_NEEDED = ("DEPLOY_SERVER", "DEPLOY_CA", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")


def kubeconfig(folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the kubeconfig to use: that of KUBECONFIG, or one that authenticates with tokens of this job.

    Raises:
        Failure: A variable is missing.
    """
    if environment.get("KUBECONFIG"):
        return Path(environment["KUBECONFIG"])
    for name in _NEEDED:
        if not environment.get(name):
            raise Failure(
                f"{name} is not set, so no cluster is known. docs/how-to/release.md describes the environments."
            )
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "tools.release.access"],
        "env": [
            {"name": "PYTHONPATH", "value": str(ROOT)},
            {"name": "DEPLOY_SERVER", "value": environment["DEPLOY_SERVER"]},
        ],
        "interactiveMode": "Never",
    }
    cluster = {"server": environment["DEPLOY_SERVER"], "certificate-authority-data": environment["DEPLOY_CA"]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "deploy", "cluster": cluster}],
        "users": [{"name": "deploy", "user": {"exec": plugin}}],
        "contexts": [{"name": "deploy", "context": {"cluster": "deploy", "user": "deploy"}}],
        "current-context": "deploy",
    }
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


def credential(environment: Mapping[str, str]) -> dict[str, object]:
    """Return a new token of this job, for the API server as its audience, as kubectl expects it."""
    request = urllib.request.Request(  # noqa: S310 - the address is GitHub's own
        f"{environment['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience={environment['DEPLOY_SERVER']}",
        headers={"Authorization": f"Bearer {environment['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        token = str(json.load(answer)["value"])
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    until = datetime.fromtimestamp(claims["exp"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": until},
    }


if __name__ == "__main__":
    print(json.dumps(credential(os.environ)))
