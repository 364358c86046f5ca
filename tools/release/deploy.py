"""Upgrade the release of an environment to what was published, or leave it as it was."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tools.cluster.cache import ROOT
from tools.cluster.console import Failure, run, say, step
from tools.cluster.programs import find
from tools.release import access
from tools.release.checks import pinned
from tools.release.oci import Registry


def deploy(registry: Registry, images: Sequence[str], charts: Sequence[str], environment: Mapping[str, str]) -> None:
    """Upgrade, wait until the new pods serve, let `helm test` check the release and predict once; roll back otherwise.

    Args:
        registry: decides whether the chart comes by plain HTTP.
        images: references of all images; the service's is deployed.
        charts: references of all charts.
        environment: DEPLOY_VALUES (a file in this repository), and DEPLOY_SERVER with DEPLOY_CA, or KUBECONFIG;
            DEPLOY_RELEASE, DEPLOY_NAMESPACE and DEPLOY_TIMEOUT (of each step, 5m).

    Raises:
        Failure: something is missing or has no digest (nothing was changed), or the new version did not come up or
            did not predict (the old one serves).
    """
    values = _values(environment)
    arguments = [environment.get("DEPLOY_RELEASE") or "model", _chart(charts), *image_values(images)]
    namespace = ["--namespace", environment.get("DEPLOY_NAMESPACE") or "models"]
    patience = environment.get("DEPLOY_TIMEOUT") or "5m"
    plain = ["--plain-http"] if registry.local else []
    with tempfile.TemporaryDirectory() as work:
        env = {**os.environ, "KUBECONFIG": str(access.kubeconfig(Path(work), environment))}
        helm = find("helm")
        newer = "Client Version: v4" in run([helm, "version", "--template", "Client Version: {{.Version}}"])
        rollback = "--rollback-on-failure" if newer else "--atomic"
        command = [helm, "upgrade", "--install", *arguments, *namespace, *plain, "--values", values]
        with step("upgrade the release"):
            remedy = "The release was rolled back: the old version serves."
            run([*command, rollback, "--wait", "--timeout", patience], env=env, remedy=remedy)
        try:
            with step("let helm test check the release"):
                run([helm, "test", arguments[0], *namespace, "--timeout", patience], env=env)
            with step("predict"):
                say(_predict(arguments[0], namespace, env))
        except Failure as failure:
            undone = _undo(helm, arguments[0], [*namespace, "--wait", "--timeout", patience], env)
            raise Failure(f"{failure}\n{undone}") from failure


def _predict(release: str, namespace: Sequence[str], env: Mapping[str, str]) -> str:
    """Return what the release answers to its model's own example; asked in a pod, which has the API key if any.

    Raises:
        Failure: it answers with something else than predictions.
    """
    labels = f"app.kubernetes.io/instance={release},app.kubernetes.io/name=model-service"
    name = run([find("kubectl"), "get", "deployment", *namespace, "--selector", labels, "--output", "name"], env=env)
    command = ["python3", "-m", "app.tools.check", "predict", "http://127.0.0.1:8000"]
    said = run([find("kubectl"), "exec", name.strip(), *namespace, "--", *command], env=env).strip()
    if not json.loads(said).get("predictions"):
        raise Failure(f"The release predicts nothing: it answers {said[:200]}")
    return said[:200]


def _undo(helm: Path, release: str, options: Sequence[str], env: Mapping[str, str]) -> str:
    """Bring the revision before back, or take the release away when it is the first; return what was done."""
    history = json.loads(run([helm, "history", release, *options[:2], "--output", "json"], env=env))
    if len(history) == 1:
        run([helm, "uninstall", release, *options], env=env)
        return "The release was uninstalled: there is no earlier version."
    run([helm, "rollback", release, *options], env=env)
    return "The release was rolled back: the old version serves."


def image_values(images: Sequence[str]) -> list[str]:
    """Return the options that make a release run the service's image of this digest, and no other."""
    [service] = [image for image in images if pinned(image).partition("@")[0].endswith("/model-service")]
    name, _, digest = service.partition("@")
    host, _, repository = name.partition("/")
    return [f"--set=image.registry={host}", f"--set=image.repository={repository}", f"--set=image.digest={digest}"]


def _chart(charts: Sequence[str]) -> str:
    [chart] = [chart for chart in charts if "/charts/model-service@" in pinned(chart)]
    return f"oci://{chart}"


def _values(environment: Mapping[str, str]) -> Path:
    name = environment.get("DEPLOY_VALUES", "")
    path = ROOT / name
    if not name or not path.is_file():
        raise Failure(f"DEPLOY_VALUES={name} is not a file in this repository. Set it to the environment's values.")
    image = (yaml.safe_load(path.read_text()) or {}).get("image") or {}
    if image.keys() & {"tag", "repository", "registry"}:
        raise Failure(f"{name} names an image, and the release decides which. Remove image from it.")
    return path
