"""The gate's pure modules import no MLflow."""

import subprocess
import sys

PURE = ("bootstrap", "judge", "decision", "promotion")


def test_pure_modules_import_no_mlflow() -> None:
    imports = "; ".join(f"import training.gate.{name}" for name in PURE)
    program = f"{imports}; import sys; print(*(name for name in sys.modules if name.partition('.')[0] == 'mlflow'))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
