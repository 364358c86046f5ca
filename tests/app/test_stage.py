"""What the first container of a pod with a worker leaves for the others."""

import shutil
from pathlib import Path

import pytest
import yaml

from app.errors import LoadError
from app.registry.staged import FOLDER, PROGRAM, REQUIREMENTS, WORKER, read
from app.stage import requirements_of
from tests.app.workers import pyfunc_settings, staged


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A model that was logged with Python 3.11."""
    shutil.copytree(saved, tmp_path / "model")
    (tmp_path / "model" / "python_env.yaml").write_text(yaml.safe_dump({"python": "3.11.7"}))
    return tmp_path / "model"


def test_staged_model_is_a_verified_copy_with_the_program_of_the_worker(model: Path, tmp_path: Path) -> None:
    settings = pyfunc_settings(model.as_uri(), tmp_path)

    staged(settings)
    (model / "MLmodel").write_text("changed later")
    found = read(settings)

    assert found.folder == (settings.cache_dir / FOLDER).resolve()
    assert (found.folder / "MLmodel").read_text() != "changed later"
    assert (found.origin, found.copy, len(found.provenance.version)) == ("folder", None, 12)
    program = settings.cache_dir / WORKER / PROGRAM
    assert {path.name for path in program.iterdir()} >= {"__main__.py", "serve.py", "wire.py", "install.py"}
    assert (settings.cache_dir / WORKER / REQUIREMENTS).read_text() == requirements_of(model)


def test_model_of_another_python_is_refused_with_the_value_to_set(model: Path, tmp_path: Path) -> None:
    settings = pyfunc_settings(model.as_uri(), tmp_path, worker_python="3.13")

    with pytest.raises(LoadError) as refusal:
        staged(settings)

    assert str(refusal.value) == (
        "it was logged with Python 3.11.7, but model.environment.python is 3.13; "
        'set model.environment.python="3.11", or log the model with Python 3.13'
    )
    assert not (settings.cache_dir / FOLDER).exists()


@pytest.mark.parametrize("changes", [{"worker_python": "3.11"}, {"model_compatibility": "off", "worker_python": "3.9"}])
def test_same_python_or_no_comparison_is_accepted(model: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    staged(pyfunc_settings(model.as_uri(), tmp_path, **changes))


def test_other_digest_is_refused_before_anything_is_staged(model: Path, tmp_path: Path) -> None:
    settings = pyfunc_settings(model.as_uri(), tmp_path, model_sha256="0" * 64)

    with pytest.raises(LoadError, match="is pinned"):
        staged(settings)

    assert not (settings.cache_dir / FOLDER).exists()
    assert (tmp_path / "termination").read_text().startswith(f"Cannot load {model.as_uri()}: ")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("mlflow==2.9.2\nscikit-learn==1.3.2", "mlflow-skinny==2.9.2\nscikit-learn==1.3.2\npandas<3\n"),
        ("mlflow==3.17.2\npandas==3.1.1", "mlflow-skinny==3.17.2\npandas==3.1.1\n"),
        ("mlflow<4,>=3\npandas", "mlflow-skinny<4,>=3\npandas\n"),
        ("mlflow[gateway]==3.1\npandas-stubs", "mlflow[gateway]==3.1\npandas-stubs\npandas\n"),
        ('mlflow==3.1.4; python_version > "3"\npandas', 'mlflow-skinny==3.1.4; python_version > "3"\npandas\n'),
        ("", "pandas\n"),
    ],
)
def test_mlflow_is_replaced_by_what_suffices(tmp_path: Path, given: str, wanted: str) -> None:
    (tmp_path / "requirements.txt").write_text(given)

    assert requirements_of(tmp_path) == wanted
