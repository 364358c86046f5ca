"""The action that builds the image of a model's packages, run like a workflow step in a repository with a remote.

`docker` stands for the engine: `docker run` runs the training image's command in this Python, and `docker buildx build`
does not build but answers with a digest. Everything else is real: MLflow, the lock, git. What it would build is tested
in test_lock_and_image.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

from tests.training.conftest import Server
from tests.training.own_python import models
from tools.cluster.cache import ROOT
from tools.cluster.console import run

ACTION = ROOT / ".github" / "actions" / "build-model-image"
EXAMPLE = ROOT / "docs" / "how-to" / "gitops" / "github" / "build-model-image.yaml"
IMAGE, FILE = "registry.example/churn-python:7", "models/churn-python.yaml"
BASE, TRAINING = (f"registry.example/{name}@sha256:{'a' * 64}" for name in ("python", "training"))
DOCKER = f"""#!{sys.executable} -I
import json, os, subprocess, sys
arguments = sys.argv[1:]
if arguments[0] == "run":
    [output] = [each.removesuffix(":/output") for each in arguments if each.endswith(":/output")]
    command = [each.replace("/output", output) for each in arguments[arguments.index({TRAINING!r}) + 1 :]]
    sys.exit(subprocess.call([sys.executable, "-m", "training", *command], cwd={str(ROOT)!r}))
assert arguments[:3] == ["buildx", "build", "--push"], arguments
assert os.path.exists(arguments[-1] + "/Dockerfile")
with open(arguments[arguments.index("--metadata-file") + 1], "w") as file:
    json.dump({{"containerimage.digest": "sha256:" + "b" * 64}}, file)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout of a GitOps repository with a remote."""
    remote, here = tmp_path / "remote.git", tmp_path / "checkout"
    run(["git", "init", "--quiet", "--bare", "--initial-branch=main", remote])
    run(["git", "clone", "--quiet", remote, here])
    (here / "models").mkdir()
    (here / "models" / "churn.yaml").write_text("replicaCount: 2\n")
    run(["git", "-C", here, "add", "."])
    run(["git", "-C", here, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "models"])
    run(["git", "-C", here, "push", "--quiet", "origin", "HEAD:main"])
    return here


@pytest.fixture
def version(server: Server) -> str:
    """Return the URI of a registered version of another flavor."""
    mlflow.set_tracking_uri(server.uri)
    logged = mlflow.initialize_logged_model(name="built")
    server.client.log_model_artifacts(logged.model_id, str(models() / "labels"))
    server.client.finalize_logged_model(logged.model_id, "READY")
    server.client.create_registered_model("built")
    server.client.create_model_version("built", f"models:/{logged.model_id}", model_id=logged.model_id)
    return "models:/built/1"


def build(checkout: Path, uri: str, tracking: str = "", **changes: str) -> tuple[int, str, dict[str, str]]:
    """Run the step, and return its exit code, output and outputs."""
    programs, outputs = checkout.parent / "programs", checkout.parent / "outputs"
    programs.mkdir(exist_ok=True)
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    outputs.write_text("")
    inputs = {
        "MODEL_URI": uri, "MODEL_IMAGE": IMAGE, "MODEL_BASE": BASE, "MODEL_FILE": FILE,
        "MODEL_PLATFORMS": "linux/amd64", "TRAINING_IMAGE": TRAINING, "MLFLOW_TRACKING_URI": tracking,
    }  # fmt: skip
    env = {**os.environ, **inputs, **changes, "GITHUB_OUTPUT": str(outputs)}
    env["PATH"] = f"{programs}:{env['PATH']}"
    command = [sys.executable, "-I", str(ACTION / "build.py")]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=300, check=False)
    print(done.stderr)
    return done.returncode, done.stdout, dict(line.split("=", 1) for line in outputs.read_text().splitlines())


def test_image_is_proposed_once_by_its_digest(checkout: Path, version: str, server: Server) -> None:
    code, text, outputs = build(checkout, version, server.uri)

    assert code == 0, text
    assert outputs["reference"] == f"{IMAGE}@sha256:{'b' * 64}"
    assert outputs["branch"] == "packages/built-1"
    pushed = yaml.safe_load(run(["git", "-C", checkout.parent / "remote.git", "show", f"packages/built-1:{FILE}"]))
    assert pushed["model"]["uri"] == version
    assert len(pushed["model"]["sha256"]) == 64
    image = {"registry": "registry.example", "repository": "churn-python", "tag": "7", "digest": f"sha256:{'b' * 64}"}
    assert pushed["model"]["environment"] == {"python": "3.11", "install": False, "image": image}

    again, text, outputs = build(checkout, version, server.uri)  # the branch is checked out, as if it were merged

    assert again == 0
    assert "names this image already" in text
    assert outputs.keys() == {"digest", "reference"}


@pytest.mark.parametrize(
    ("uri", "changes", "problem"),
    [
        ("models:/churn@champion", {}, "model='models:/churn@champion' is not models:/<name>/<version>"),
        ("models:/churn/7", {"MODEL_BASE": "python:3.11-slim"}, "base='python:3.11-slim' has no digest"),
        ("models:/churn/7", {"TRAINING_IMAGE": "training:1"}, "training-image='training:1' has no digest"),
        ("models:/churn/7", {"MODEL_PLATFORMS": "linux/amd64,linux/riscv64"}, "'linux/riscv64' is not one of"),
        ("models:/churn/7", {"MODEL_FILE": "none/churn.yaml"}, "none is not a folder in this checkout"),
        ("models:/churn/7", {}, "error: docker run ended with 2"),
    ],
)
def test_refusal_is_a_sentence_and_pushes_nothing(
    uri: str, changes: dict[str, str], problem: str, checkout: Path
) -> None:
    code, text, outputs = build(checkout, uri, **changes)

    assert code == 1
    assert problem in text
    assert text.startswith("error: ")
    assert outputs == {}
    assert run(["git", "-C", checkout.parent / "remote.git", "branch", "--list", "packages/*"]) == ""


def test_every_input_of_the_program_is_one_of_the_action() -> None:
    action = yaml.safe_load((ACTION / "action.yaml").read_text())
    example = yaml.safe_load(EXAMPLE.read_text())

    [step] = [each for each in action["runs"]["steps"] if each.get("id") == "built"]
    assert set(step["env"]) == {
        *("MODEL_URI", "MODEL_IMAGE", "MODEL_BASE", "MODEL_FILE", "MODEL_PLATFORMS", "TRAINING_IMAGE"),
        "MLFLOW_TRACKING_URI",
    }
    given = example["jobs"]["build"]["steps"][-1]["with"]
    assert set(given) <= set(action["inputs"])
    assert {name for name, each in action["inputs"].items() if each.get("required")} <= set(given)
