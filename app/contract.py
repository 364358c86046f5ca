"""Define `contract.json`, what a model says about its own output.

Written by training beside the model in its MLflow folder, read by the service: this is the only
definition of the format. Inputs are described by MLflow's own signature; what it lacks may stand here.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

CONTRACT_FILE = "contract.json"
MODEL_FILE = "model.ubj"

Task = Literal["binary", "multiclass", "regression", "ranking"]


class ContractColumn(BaseModel):
    """One input, for a model that was logged without a signature or with categories that the booster does not name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    type: str = Field(default="double", description="As MLflow's signatures name it.")
    required: bool = Field(default=True, description="False: it may be left out or null.")
    categories: tuple[StrictStr | StrictInt, ...] = Field(
        default=(), description="Of a categorical feature, in the order of the booster's numbers."
    )


class Contract(BaseModel):
    """What the model's numbers mean.

    Fields of a later minor addition are ignored, so that an older service reads a newer model; a change of
    meaning raises `schema_version`, which an older service refuses.

    Raises:
        pydantic.ValidationError: unknown task or schema version, or classes that do not fit the task.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    task: Task
    target: str = Field(min_length=1, description="Name of the predicted column.")
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names in the order of the model's output. Binary: the booster's number is the "
        "probability of the second.",
    )
    columns: tuple[ContractColumn, ...] = Field(default=(), description="Inputs in the order of the features.")
    example_output: tuple[tuple[float, ...], ...] = Field(
        default=(), description="What the booster answered to the input example in training: its numbers for each row."
    )

    @model_validator(mode="after")
    def _classes_fit_the_task(self) -> Self:
        count = len(self.classes)
        if self.task in ("regression", "ranking") and count:
            raise ValueError(f"a {self.task} has no classes, but {count} are given")
        if self.task == "binary" and count != 2:
            raise ValueError(f"a binary model has 2 classes, not {count}")
        if self.task == "multiclass" and count < 3:
            raise ValueError(f"a multiclass model has at least 3 classes, not {count}")
        if len(set(self.classes)) != count:
            raise ValueError(f"the classes are not unique: {list(self.classes)}")
        return self
