"""Options of `train`, and the specifications of data and split that follow from them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.model.contract import DatePart, Task, UnknownCategory
from app.model.dates import PARTS
from training.csv_settings import CsvSettings
from training.data import inference_log
from training.data.dataset import DataSpec, SplitSpec
from training.data.null_words import NULL_WORDS
from training.environment import cpu_limit
from training.metrics.catalog import METRIC_NAMES, metric_of
from training.settings import Seed, Share

# Parameters of XGBoost that have their own option.
TREE_PARAMS = ("max_depth", "learning_rate", "subsample", "colsample_bytree", "min_child_weight", "reg_lambda")
# Objectives that imply their task, because a target does not show that it is a time until an event.
SURVIVAL: dict[str, Task] = {"survival:cox": "survival_risk", "survival:aft": "survival_time"}
_NOT_FREE = {*TREE_PARAMS, "eta", "lambda", "seed", "nthread", "num_class", "device", "booster", "process_type"}

LOG_MARGIN = timedelta(minutes=15)  # from a label to its file: three times the chart's rotateSeconds

# Bounds of a parameter, and "log" if its logarithm is searched evenly.
Range = tuple[int | float, int | float] | tuple[int | float, int | float, Literal["log"]]


def _recently() -> str:
    return (datetime.now(UTC) - LOG_MARGIN).isoformat(timespec="seconds")


class TrainOptions(CsvSettings):
    """Train an XGBoost model on a table and register it in MLflow as a new version."""

    data: str = Field(
        default="breast_cancer",
        min_length=1,
        description="CSV or Parquet file (path, s3:// or http(s)://), a folder of Parquet files, or a built-in data "
        "set: breast_cancer, wine or diabetes.",
    )
    from_log: str = Field(
        default="",
        description="Inference log to train on, instead of --data: one row per labelled prediction. s3://, gs://, "
        "az://, file:// or a path. --target names the label.",
    )
    log_until: str = Field(
        default_factory=lambda data: _recently() if data.get("from_log") else "",
        description="Time in ISO 8601 until which labels of --from-log count. The default is 15 minutes ago, because "
        "later ones may still be in the pods.",
    )
    target: str = Field(default="", description="Column to predict. Built-in data sets have a default.")
    task: Literal["auto"] | Task = Field(
        default="auto", description="Task of the model. auto infers it from the target."
    )
    group: str = Field(
        default="", description="Column with the query of a ranking. The rows of a group are never split."
    )
    positive: str = Field(
        default="", description="Class whose probability a binary model predicts. Defaults to the last class."
    )
    drop: tuple[str, ...] = Field(default=(), description="Columns to leave out, or patterns such as tmp_*.")
    categorical: tuple[str, ...] = Field(default=(), description="Integer columns that are categories.")
    unknown_category: UnknownCategory = Field(
        default="error",
        description="How the service and scoring take a category that is not in the training data: error refuses it, "
        "missing predicts it as a missing value.",
    )
    min_category_count: int = Field(
        default=1,
        ge=1,
        description="Number of rows that a category needs. Rarer ones are missing values, in training and, with "
        "--unknown-category=missing, which it requires, in the service.",
    )
    dates: tuple[str, ...] = Field(
        default=(),
        description="Columns of dates or times, in ISO 8601 if they are text. Their parts are features, and requests "
        "contain the date.",
    )
    date_parts: tuple[DatePart, ...] = Field(
        default=PARTS,
        min_length=1,
        description="Parts of --dates: year, month, day, weekday (0 is Monday), hour, and days (since 1970-01-01).",
    )
    skip_unlabelled: bool = Field(default=False, description="Leave out rows without a target, instead of failing.")
    null_words: tuple[str, ...] = Field(
        default=NULL_WORDS,
        description="Words that stand for a missing value, as a JSON list. The model records them for scoring.",
    )

    seed: Seed = Field(default=0, description="Seed of the row and column sampling and of the search.")
    split_seed: Seed = Field(
        default=0,
        description="Seed of the split. Versions with the same seed have the same holdout and stay comparable.",
    )
    holdout_share: float = Field(
        default=0.2, gt=0, lt=0.9, description="Share of the rows in the holdout, on which the model is measured."
    )
    holdout_key: tuple[str, ...] = Field(
        default=(),
        description="Columns whose hash assigns each row to the holdout, so that models of a growing table stay "
        "comparable. * uses all columns. Empty draws the holdout from the row numbers.",
    )
    time_column: str = Field(
        default="",
        description="Column with the time of each row: a number, or a date or time in ISO 8601. The latest rows are "
        "the holdout. The column is not a feature.",
    )
    time_gap: str = Field(
        default="",
        description="Duration before the holdout and the validation part whose rows are left out, such as 7d (units s, "
        "m, h, d, w). For a time column of numbers, a number.",
    )
    weight_column: str = Field(
        default="",
        description="Column with the weight of each row, a positive number, for the fit and all metrics. It is not a "
        "feature.",
    )
    event_column: str = Field(
        default="",
        description="Column with 1 or true if the event of a survival model was observed at the time in --target, and "
        "0 or false if the row was censored then. Without it, a negative time is censored. It is not a feature.",
    )
    upper_bound_column: str = Field(
        default="",
        description="Column with the latest possible time of the event, of which --target is the earliest one, for the "
        "objective survival:aft. Empty for a censored row. It is not a feature.",
    )
    validation_share: float = Field(
        default=0.2, gt=0, lt=0.9, description="Share of the other rows that early stopping validates on."
    )
    folds: int = Field(
        default=1, ge=1, le=100, description="Number of cross-validation folds. 1 uses a single validation part."
    )

    group_metrics: tuple[str, ...] = Field(
        default=(),
        description="Columns, such as region, by whose values the metric of the holdout is also computed. The gate can "
        "limit the loss of a group. They remain features unless --drop names them.",
    )
    metric: str = Field(
        default="",
        description="Metric of early stopping, of the search and, by default, of the gate. The default is that of the "
        f"objective. The names are {', '.join(METRIC_NAMES)}.",
    )
    calibration: Literal["", "platt", "isotonic"] = Field(
        default="",
        description="Calibration of a binary model's probability by the validation rows: platt (a line through the log "
        "odds) or isotonic (a rising curve, for thousands of validation rows). Empty: none.",
    )
    rounds: int = Field(default=300, ge=1, description="Number of boosting rounds, or its limit with early stopping.")
    early_stopping_rounds: int = Field(
        default=20,
        ge=0,
        description="Rounds without improvement after which early stopping ends. 0 turns it off.",
    )
    max_depth: int = Field(default=4, ge=1, le=32, description="Maximum depth of a tree.")
    learning_rate: Share = Field(default=0.1, description="Weight of each new tree.")
    subsample: Share = Field(default=0.8, description="Share of the rows that each tree samples.")
    colsample_bytree: Share = Field(default=0.8, description="Share of the columns that each tree samples.")
    min_child_weight: float = Field(default=1, ge=0, description="Minimum weight of a leaf.")
    reg_lambda: float = Field(default=1, ge=0, description="L2 regularisation of the leaves.")
    params: dict[str, Any] = Field(default={}, description="More parameters of XGBoost, as JSON.")
    trials: int = Field(default=0, ge=0, description="Number of trials of the hyperparameter search. 0 turns it off.")
    search_space: dict[str, Range] = Field(
        default={},
        description='Parameters that the search varies, as JSON: {"max_depth": [2, 6], "gamma": [0.01, 5, "log"]}. Two '
        "whole numbers give whole numbers. Empty: depth, learning rate, shares, minimum weight and L2.",
    )
    nthread: int = Field(
        default_factory=cpu_limit, ge=1, description="Number of threads. The model does not depend on it."
    )

    checkpoints: str = Field(
        default="",
        description="Folder or s3:// address for checkpoints, from which an interrupted run continues.",
    )
    checkpoint_rounds: int = Field(default=20, ge=1, description="Number of rounds between two checkpoints.")
    retry_seconds: float = Field(
        default=300, ge=0, description="Seconds to wait for an unreachable MLflow at the end of the run."
    )
    keep_dir: Path = Field(
        default=Path("training-kept"), description="Folder for the files of a run that could not be published."
    )

    key: str = Field(
        default="",
        description="Key of this training. If a version with the same key is registered, it is the result and nothing "
        "is trained.",
    )

    @field_validator("metric")
    @classmethod
    def _metric_exists(cls, metric: str) -> str:
        if metric:
            metric_of(metric)
        return metric

    @field_validator("log_until")
    @classmethod
    def _until_is_a_time(cls, until: str) -> str:
        if not until:
            return until
        try:
            moment = datetime.fromisoformat(until)
        except ValueError:
            raise ValueError(f"{until} is not a time in ISO 8601, such as 2026-01-31T12:00:00+00:00") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()

    @field_validator("date_parts")
    @classmethod
    def _parts_are_different(cls, parts: tuple[DatePart, ...]) -> tuple[DatePart, ...]:
        if len(set(parts)) != len(parts):
            raise ValueError("a part is named twice")
        return parts

    @field_validator("params")
    @classmethod
    def _params_are_free(cls, params: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(_NOT_FREE & params.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be given here; use the option of that name if there is one")
        return params

    @field_validator("search_space")
    @classmethod
    def _ranges_are_not_empty(cls, space: dict[str, Range]) -> dict[str, Range]:
        if taken := sorted((_NOT_FREE - {*TREE_PARAMS}) & space.keys()):
            raise ValueError(f"{', '.join(taken)} cannot be searched")
        for name, (low, high, *log) in space.items():
            if not low < high or (log and low <= 0):
                raise ValueError(f"{name} needs a lower and a higher bound, which are positive for log")
        return space

    @model_validator(mode="after")
    def _space_is_searched(self) -> Self:
        if self.search_space and not self.trials:
            raise ValueError("--search-space needs --trials")
        if both := sorted(self.search_space.keys() & self.params.keys()):
            raise ValueError(f"{', '.join(both)} is in --search-space and in --params: keep one of them")
        return self

    @model_validator(mode="after")
    def _log_is_the_data(self) -> Self:
        if self.from_log and "data" in self.model_fields_set:
            raise ValueError("--from-log replaces --data: remove one of them")
        return self

    @model_validator(mode="after")
    def _time_alone_splits(self) -> Self:
        if self.time_column and (self.group or self.holdout_key):
            raise ValueError("--time-column decides the holdout alone: remove --group or --holdout-key")
        if self.time_gap and not self.time_column:
            raise ValueError("--time-gap needs --time-column")
        if self.weight_column and self.weight_column in (self.target, self.group, self.time_column):
            raise ValueError(
                "--weight-column needs a column of its own, which is not the target, the group or the time"
            )
        return self

    @model_validator(mode="after")
    def _times_until_an_event(self) -> Self:
        if self.event_column and self.upper_bound_column:
            raise ValueError("--upper-bound-column contains which rows are censored: remove --event-column")
        if self.event_column and self.survival_task not in SURVIVAL.values():
            raise ValueError(
                '--event-column needs the objective survival:cox or survival:aft: --params \'{"objective": '
                '"survival:cox"}\' or --task=survival_risk, which have the same meaning'
            )
        if self.upper_bound_column and self.survival_task != "survival_time":
            raise ValueError("--upper-bound-column needs the objective survival:aft (--task=survival_time)")
        used = [self.target, self.group, self.time_column, self.weight_column]
        if {self.event_column, self.upper_bound_column} & {*filter(None, used)}:
            raise ValueError("--event-column and --upper-bound-column need a column without another use")
        return self

    @model_validator(mode="after")
    def _rare_categories_are_served(self) -> Self:
        if self.min_category_count > 1 and self.unknown_category != "missing":
            raise ValueError(
                "--min-category-count needs --unknown-category=missing, or the service refuses the rare categories"
            )
        return self

    @property
    def data_spec(self) -> DataSpec:
        """The data to load."""
        names = {"target", "task", "group", "positive", "drop", "categorical", "min_category_count", "skip_unlabelled"}
        names |= {"null_words", "holdout_key", "time_column", "weight_column", "group_metrics", "dates", "date_parts"}
        names |= {"event_column", "upper_bound_column"}
        given = self.model_dump(include=names) | {"task": self.survival_task}
        if not self.from_log:
            return DataSpec(source=self.data, csv=self.csv_format, **given)
        if not (self.holdout_key or self.time_column or self.group):
            given["holdout_key"] = (inference_log.IDENTITY,)  # the holdout stays the same in a log that grows
        source = inference_log.source_of(self.from_log, self.log_until, self.target or inference_log.LABEL)
        return DataSpec(source=source, **given)

    @property
    def survival_task(self) -> Literal["auto"] | Task:
        """The task, which an objective of survival models implies."""
        return SURVIVAL.get(str(self.params.get("objective")), "auto") if self.task == "auto" else self.task

    @property
    def split_spec(self) -> SplitSpec:
        """How to split the rows."""
        return SplitSpec(
            seed=self.split_seed,
            holdout_share=self.holdout_share,
            validation_share=self.validation_share,
            folds=self.folds,
            time_gap=self.time_gap,
        )

    @property
    def booster_params(self) -> dict[str, Any]:
        """Parameters of XGBoost that shape the trees."""
        return self.model_dump(include={"seed", *TREE_PARAMS}) | self.params

    @property
    def recorded(self) -> dict[str, Any]:
        """All options, as they are logged. None of them is a secret."""
        return self.model_dump(mode="json", exclude={"config", "result", "params"}) | {
            f"params.{name}": value for name, value in self.params.items()
        }
