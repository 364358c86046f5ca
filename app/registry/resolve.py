"""Resolution of a registry URI: from an alias or a version to MLflow's record of one version, and its origin."""

import math
from dataclasses import replace
from typing import Any

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.artifacts import UnknownError
from app.registry.client import RegistryClient
from app.uri import RegisteredModel


def resolve(client: RegistryClient, wanted: RegisteredModel) -> dict[str, Any]:
    """Return MLflow's record of the version; an alias is resolved now."""
    if wanted.alias:
        answer = client.get("mlflow/registered-models/alias", name=wanted.name, alias=wanted.alias)
    else:
        answer = client.get("mlflow/model-versions/get", name=wanted.name, version=wanted.version)
    found = answer.get("model_version")
    if not isinstance(found, dict) or not str(found.get("version", "")).isdecimal():
        raise LoadError("MLflow returns no model version", "check the version of the MLflow server", retryable=True)
    if found.get("status", "READY") != "READY":
        raise LoadError(
            f"version {found['version']} is {found['status']}", "wait until it is registered", retryable=True
        )
    return found


def provenance_of(
    client: RegistryClient, wanted: RegisteredModel, served_name: str, found: dict[str, Any]
) -> Provenance:
    """Return the origin of a version: its tags in the registry, and the run that logged it.

    Args:
        client: Client of the MLflow server.
        wanted: Model in the registry.
        served_name: Name of the model in responses and metrics.
        found: MLflow's record of the version.
    """
    version, tags, run_id = str(found["version"]), pairs(found.get("tags")), str(found.get("run_id", ""))
    known = provenance_of_run(client, run_id, served_name, f"models:/{wanted.name}/{version}")
    return replace(
        known,
        version=version,
        alias=wanted.alias,
        git_commit=tags.get("git_commit") or known.git_commit,
        data_digest=tags.get("data_digest", ""),
    )


def provenance_of_run(client: RegistryClient, run_id: str, served_name: str, uri: str) -> Provenance:
    """Return the origin of a model that a run logged, without a version.

    Args:
        client: Client of the MLflow server.
        run_id: ID of the run; "" if it is not known.
        served_name: Name of the model in responses and metrics.
        uri: URI of the model.
    """
    data = _run(client, run_id).get("data", {})
    run_tags = pairs(data.get("tags"))
    return Provenance(
        name=served_name,
        version="",
        uri=uri,
        run_id=run_id,
        git_commit=run_tags.get("mlflow.source.git.commit", ""),
        parameters=pairs(data.get("params")),
        metrics={name: _finite(value) for name, value in pairs(data.get("metrics")).items()},
        environment={k.removeprefix("env."): v for k, v in run_tags.items() if k.startswith("env.")},
    )


def _run(client: RegistryClient, run_id: str) -> dict[str, Any]:
    """Return the run that logged the model, or an empty object if it was deleted: the model is served regardless."""
    if not run_id:
        return {}
    try:
        run = client.get("mlflow/runs/get", run_id=run_id).get("run")
    except UnknownError:
        return {}
    return run if isinstance(run, dict) else {}


def pairs(entries: Any) -> dict[str, str]:
    """Return MLflow's list of {"key", "value"} as a dict."""
    return {str(e["key"]): str(e.get("value", "")) for e in entries or []}


def _finite(value: str) -> float | None:
    """Return a metric as a number, or None for NaN and infinity, which JSON does not support."""
    number = float(value)
    return number if math.isfinite(number) else None
