"""Versions of a model in a real MLflow server, made of folders, and the alias that names one of them."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

NAME, ALIAS = "followed", "live"
URI = f"models:/{NAME}@{ALIAS}"


class Registry:
    """One registered model.

    Args:
        address: The MLflow server.
        name: Name of the model.
    """

    def __init__(self, address: str, name: str = NAME) -> None:
        self.address, self.name = address, name
        self._count = 0
        self._call("mlflow/registered-models/create", {"name": name})
        self._run = self._call("mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]

    def register(self, folder: Path, **tags: str) -> str:
        """Upload the files of a folder, and return the number of the version that has them."""
        self._count += 1
        source = f"{self._run['artifact_uri']}/{self._count}"
        for path in folder.iterdir():
            target = f"{self.address}/api/2.0/mlflow-artifacts/artifacts{urlsplit(source).path}/{path.name}"
            request = Request(target, path.read_bytes(), method="PUT")  # noqa: S310 - a test's own server
            with urlopen(request, timeout=300) as response:  # noqa: S310
                assert response.status == 200
        known = {"name": self.name, "source": source, "run_id": self._run["run_id"]}
        given = [{"key": key, "value": value} for key, value in tags.items()]
        answer = self._call("mlflow/model-versions/create", known | {"tags": given})
        return str(answer["model_version"]["version"])

    def point(self, version: str) -> None:
        """Let the alias name a version."""
        self._call("mlflow/registered-models/alias", {"name": self.name, "alias": ALIAS, "version": version})

    def tag(self, version: str, **tags: str) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            tag = {"name": self.name, "version": version, "key": key, "value": value}
            self._call("mlflow/model-versions/set-tag", tag)

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        request = Request(f"{self.address}/api/2.0/{path}", json.dumps(body).encode(), method="POST")  # noqa: S310
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=300) as response:  # noqa: S310
            return json.load(response)
