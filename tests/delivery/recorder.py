"""Program that stands in for make and for actions in a workflow that act runs: it records what it is given.

Usage: recorder.py make VERB, or recorder.py action NAME with the inputs as JSON in INPUTS. The folder of the records is
in RECORDS. It only uses the standard library.
"""

import fnmatch
import json
import os
import shutil
import sys
from pathlib import Path

KEPT = (
    "BUILT_IMAGES",
    "COMMITS",
    "DEPLOY_",
    "GH_TOKEN",
    "HELM_VERSION",
    "KIND_NODE_IMAGE",
    "MODEL_SERVICE_",
    "RELEASE_",
)
# Bytes of the images that `release-build` pushes.
DIGEST = "sha256:" + "a" * 64
IMAGES = ("model-service", "model-service-training", "model-service-mlflow")


def main() -> int:
    """Record the call and do what the jobs after it depend on."""
    kind, name = sys.argv[1:3]
    records = Path(os.environ["RECORDS"])
    inputs = {key: value for key, value in json.loads(os.environ.get("INPUTS", "{}")).items() if value}
    environment = {key: value for key, value in os.environ.items() if key.startswith(KEPT) and value}
    red = kind == "make" and name in (records / "red").read_text().split()
    entry = {"job": os.environ["GITHUB_JOB"], "kind": kind, "name": name, "inputs": inputs, "environment": environment}
    with (records / "calls").open("a") as calls:
        calls.write(json.dumps(entry) + "\n")
    if kind == "make" and not red:
        _make(name)
    elif name == "actions/upload-artifact":
        _upload(records / "artifacts", inputs)
    elif name == "actions/download-artifact":
        _download(records / "artifacts", inputs)
    return int(red)


def _make(verb: str) -> None:
    registry = os.environ.get("RELEASE_REGISTRY", "").lower()
    if verb == "release-build":
        _write("build/built/amd64.json", {name: f"{registry}/{name}@{DIGEST}" for name in IMAGES})
    elif verb == "release-built":
        built = json.loads(Path("build/built/amd64.json").read_text())
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as outputs:
            outputs.writelines(f"{name}={reference}\n" for name, reference in built.items())
    elif verb == "release-images":
        _write("build/release/release.json", json.loads(Path("build/built/amd64.json").read_text()))
    elif verb in ("release-verify", "release-deploy", "release-announce"):
        assert Path("build/release/release.json").is_file(), "the job did not get what was published"
    elif verb in ("docker", "e2e") and os.environ.get("BUILT_IMAGES"):
        assert Path(os.environ["BUILT_IMAGES"].replace("arm64", "amd64")).is_file(), "the job did not get the images"


def _write(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def _upload(artifacts: Path, inputs: dict[str, str]) -> None:
    assert Path(inputs["path"]).is_dir(), f"{inputs['path']} does not exist"
    shutil.copytree(inputs["path"], artifacts / inputs["name"], dirs_exist_ok=True)


def _download(artifacts: Path, inputs: dict[str, str]) -> None:
    wanted = inputs.get("name") or inputs["pattern"]
    found = [folder for folder in artifacts.glob("*") if fnmatch.fnmatch(folder.name, wanted)]
    assert found, f"no artifact is called {wanted}"
    for folder in found:
        shutil.copytree(folder, inputs["path"], dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
