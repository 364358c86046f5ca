"""The example model in the chart's `ci/*-values.yaml`, which therefore need nothing outside the cluster.

Run `python -m tools.generate.example` after a change of the model folder's format. It trains a real booster of three
trees on four columns of the breast cancer data set, saves it in the way that MLflow does, and replaces everything after
the marker line in each file.
"""

import base64
import json
import tempfile
from pathlib import Path

import mlflow.xgboost
import xgboost
import yaml
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer

from app.model.contract import CONTRACT_FILE, MODEL_FILE, Contract

CI = Path(__file__).parents[2] / "charts" / "model-service" / "ci"
MARKER = "# Below: written by tools/generate/example.py.\n"
COLUMNS = 4
TREES = 3
DEPTH = 2


def save_model(folder: Path) -> None:
    """Train the booster and save it, with its signature, input example and contract, in a new `folder`."""
    data = load_breast_cancer(as_frame=True)
    features = data.data.iloc[:, :COLUMNS].astype("float32")
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 0, "nthread": 1},
        xgboost.DMatrix(features, label=data.target),
        num_boost_round=TREES,
    )
    mlflow.xgboost.save_model(
        booster,
        folder,
        signature=infer_signature(features, booster.predict(xgboost.DMatrix(features))),
        input_example=features.head(2),
        model_format="ubj",
        pip_requirements=[],  # nothing installs from this folder
    )
    classes = tuple(str(name) for name in data.target_names)
    contract = Contract(task="binary", target="diagnosis", classes=classes)
    (folder / CONTRACT_FILE).write_text(contract.model_dump_json() + "\n")


def config_map(folder: Path) -> dict[str, object]:
    """Return the ConfigMap with the files that serving reads from the model `folder`."""
    texts = ("MLmodel", "input_example.json", CONTRACT_FILE)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "example-model"},
        "data": {name: (folder / name).read_text() for name in texts},
        "binaryData": {MODEL_FILE: base64.encodebytes((folder / MODEL_FILE).read_bytes()).decode()},
    }


class BlockDumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, so that the example can be read and its diff reviewed."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


BlockDumper.add_representer(str, _represent_text)


def main() -> None:
    """Replace the example in each values file that has the marker line."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save_model(folder)
        example = config_map(folder)
    block = yaml.dump([example], Dumper=BlockDumper, sort_keys=False, width=140)
    for path in sorted(CI.glob("*-values.yaml")):
        head, marker, _ = path.read_text().partition(MARKER)
        if marker:  # after the objects of the case itself, if it has any
            path.write_text(head + marker + ("" if "\nextraObjects:\n" in head else "extraObjects:\n") + block)
            print(json.dumps({"written": path.name, "bytes": path.stat().st_size}))


if __name__ == "__main__":
    main()
