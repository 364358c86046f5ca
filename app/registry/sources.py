"""Sources of a model: what a URI names now, and where its files are."""

from typing import Any, assert_never

from app.errors import LoadError
from app.model.files import Provenance
from app.registry.artifacts import Artifacts, Found, UnknownError
from app.registry.client import RegistryClient
from app.registry.mlflow_artifacts import in_proxy, of_logged_model, of_run, of_version
from app.registry.object_storage import StoredArtifacts
from app.registry.resolve import pairs, provenance_of, provenance_of_run, resolve
from app.registry.web import WebArtifacts
from app.settings import Settings
from app.uri import LoggedModel, ProxiedFolder, RegisteredModel, Remote, RunModel, StoredFolder, WebFolder


def find(settings: Settings, source: Remote, deadline: float) -> Found:
    """Return what a source names now.

    Args:
        settings: Name of the model, and the address and credentials of MLflow.
        source: Origin of the model.
        deadline: Time by time.monotonic(), in seconds, at which all calls end.

    Raises:
        UnknownError: The source does not have the model.
        LoadError: The source does not answer, or rejects a call.
    """
    name, uri = settings.served_name, settings.model_uri
    if isinstance(source, StoredFolder):
        return Found(Provenance(name, "", uri), StoredArtifacts(source, deadline))
    if isinstance(source, WebFolder):
        return Found(Provenance(name, "", uri), WebArtifacts(source, deadline))
    client = RegistryClient(settings, deadline)
    match source:
        case RegisteredModel():
            found = resolve(client, source)
            artifacts = of_version(client, found | {"name": source.name})
            return Found(provenance_of(client, source, name, found), artifacts, pairs(found.get("tags")))
        case LoggedModel(model):
            info = _logged_model(client, model)
            run = str(info.get("source_run_id", ""))
            artifacts = of_logged_model(client, model, str(info.get("artifact_uri", "")))
            return Found(provenance_of_run(client, run, name, uri), artifacts)
        case RunModel(run, path):
            return Found(provenance_of_run(client, run, name, uri), _artifacts_of_run(client, run, path))
        case ProxiedFolder(path):
            if (proxied := in_proxy(client, f"mlflow-artifacts:/{path}")) is None:
                raise LoadError("the path is empty", "add the path of the folder that contains MLmodel")
            return Found(Provenance(name, "", uri), proxied)
        case _:
            assert_never(source)


def _artifacts_of_run(client: RegistryClient, run: str, path: str) -> Artifacts:
    """Return the files of the model that a run logged under a name (MLflow 3), or in a folder of its artifacts."""
    known = client.get("mlflow/runs/get", run_id=run).get("run", {})
    for output in reversed(known.get("outputs", {}).get("model_outputs", [])):  # the last one logged comes last
        model = str(output.get("model_id", ""))
        if (info := _logged_model(client, model)).get("name") == path:
            return of_logged_model(client, model, str(info.get("artifact_uri", "")))
    root = str(known.get("info", {}).get("artifact_uri", ""))
    if not root:
        raise UnknownError(f"MLflow has no artifacts of the run {run}", "correct the URI")
    return of_run(client, run, root, path)


def _logged_model(client: RegistryClient, model: str) -> dict[str, Any]:
    """Return MLflow's description of a logged model."""
    info = client.get(f"mlflow/logged-models/{model}").get("model", {}).get("info", {})
    if info.get("status", "LOGGED_MODEL_READY") != "LOGGED_MODEL_READY":
        raise LoadError(f"{model} is {info['status']}", "wait until it is logged, or log it again", retryable=True)
    return dict(info)
