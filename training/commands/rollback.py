"""The command `rollback`: move the alias back to the previous champion."""

from typing import Any

import mlflow
from pydantic import Field

from training.gate.decision import report
from training.gate.rollback import rollback
from training.settings import Alias, Settings
from training.tracking.mlflow_errors import mlflow_at


class Options(Settings):
    """Move the alias back to the previous champion. Each rollback goes one step further back."""

    alias: Alias = Field(default="champion", description="Alias to move.")
    dry_run: bool = Field(default=False, description="Show the decision without changing anything.")


def run(options: Options) -> dict[str, Any]:
    """Move the alias back, and return the decision.

    Raises:
        RefusedError: There is no previous champion, or its model file was changed.
        TrackingError: MLflow is unreachable or refuses.
    """
    with mlflow_at(options.mlflow_tracking_uri):
        decision = rollback(mlflow.MlflowClient(), options.model_name, options.alias, dry_run=options.dry_run)
    return report(decision, decision.version)
