"""Settings of the commands. A flag takes precedence over an environment variable, which takes precedence over a file.

The file (`--config`, TRAINING_CONFIG) is YAML, TOML or JSON and contains the options by name. A section named after a
command applies only to that command, so that `train` and `promote` can share one file.
"""

import os
import re
import tomllib
from collections.abc import Sequence
from contextvars import ContextVar
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from training.errors import InputError

_HTTP_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)
_MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ALIAS = r"^[A-Za-z0-9_-]+$"
_file: ContextVar[dict[str, Any]] = ContextVar("values from the file of --config")
# Sections of a file. Only the command of the same name reads a section.
COMMAND_SECTIONS = (
    "train",
    "promote",
    "rollback",
    "reproduce",
    "score",
    "describe",
    "lock",
    "image",
    "upload",
    "ship",
    "erase",
)

Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _free_alias(alias: str) -> str:
    """Refuse names that MLflow reserves before the training starts."""
    if alias.lower() == "latest" or re.fullmatch(r"v\d+", alias, re.IGNORECASE):
        raise ValueError("MLflow reserves 'latest' and 'v<number>'; choose another alias")
    return alias


Alias = Annotated[str, Field(pattern=_ALIAS), AfterValidator(_free_alias)]


def server_address(uri: str) -> str:
    """Return the address of an MLflow server without a trailing slash.

    Paths and databases are refused, because MLflow would silently write to the container's disk. Passwords are refused
    because MLflow prints the URI in links and errors, which end up in logs.

    Raises:
        ValueError: The URI is not the address of a server, or contains credentials.
    """
    url = _HTTP_URL.validate_python(uri)
    if url.username or url.password:
        raise ValueError("credentials belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not in the URI")
    return uri.rstrip("/")


class Settings(BaseSettings):
    """Options of all commands. A subclass adds the options of its command.

    Every option is also an environment variable with the prefix TRAINING_, such as TRAINING_MODEL_NAME. Only
    MLFLOW_TRACKING_URI and GIT_COMMIT, which other tools define, have no prefix.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRAINING_",
        env_ignore_empty=True,  # a chart renders an empty variable for "not set"
        cli_kebab_case=True,
        cli_implicit_flags=True,  # --dry-run, and --no-dry-run
        frozen=True,
    )

    config: Path | None = Field(default=None, description="YAML, TOML or JSON file with these options.")
    mlflow_tracking_uri: str = Field(
        validation_alias="mlflow_tracking_uri", description="Address of the MLflow server, http:// or https://."
    )
    git_commit: str = Field(
        default="",
        validation_alias="git_commit",
        description="Commit of this code, for images without .git. The suffix -dirty marks modified files.",
    )
    model_name: str = Field(
        default="breast-cancer", pattern=_MODEL_NAME, description="Name of the registered model and of the experiment."
    )
    result: Path | None = Field(default=None, description="File to which the JSON result is also written.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Refuse paths, databases and credentials."""
        return server_address(uri)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the file with a lower precedence than the environment."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _file.get({}))

    @classmethod
    def load(cls, command: str, argv: Sequence[str]) -> Self:
        """Return the settings of a command from its flags, the environment and a file.

        Raises:
            InputError: Options are invalid. The message names their flags and variables, and never contains a value.
            SystemExit: Raised by argparse for --help and unknown flags.
        """
        sections = _file.set(_read(_config_path(argv), command))
        try:
            source: CliSettingsSource[Any] = CliSettingsSource(cls, cli_prog_name=f"python -m training {command}")
            return CliApp.run(cls, cli_args=list(argv), cli_settings_source=source)
        except ValidationError as error:
            problems = (cls._problem(detail["loc"], detail["msg"]) for detail in error.errors())
            raise InputError("; ".join(problems)) from None
        except SettingsError as error:
            raise InputError(f"{error}: the value must be JSON.") from None
        finally:
            _file.reset(sections)

    @classmethod
    def _problem(cls, location: tuple[int | str, ...], message: str) -> str:
        """Name an invalid setting by its flag and its variable. Charts set the variable, people the flag."""
        if not location:
            return message.removeprefix("Value error, ")
        field, *inner = (str(part) for part in location)
        if field not in cls.model_fields:
            return f"{field} is not an option of this command"
        variable = field.upper() if cls.model_fields[field].validation_alias else f"TRAINING_{field.upper()}"
        place = "".join(f", {part}" for part in inner)
        return f"--{field.replace('_', '-')} ({variable}{place}): {message.removeprefix('Value error, ')}"


def _config_path(argv: Sequence[str]) -> str:
    for flag, following in zip_longest(argv, argv[1:], fillvalue=""):
        if flag == "--config":
            return following
        if flag.startswith("--config="):
            return flag.removeprefix("--config=")
    return os.environ.get("TRAINING_CONFIG", "")


def _read(path: str, command: str) -> dict[str, Any]:
    """Return the values of a file for a command: those outside of sections, and those in the section of the command."""
    if not path:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.endswith(".toml") else yaml.safe_load(text)  # JSON is YAML
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config (TRAINING_CONFIG): {path} cannot be read ({error}).") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"--config (TRAINING_CONFIG): {path} is not valid: {what}.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"--config (TRAINING_CONFIG): {path} does not contain options by name.")
    values = {key.replace("-", "_"): value for key, value in values.items()}
    own = {key: value for key, value in values.items() if key not in COMMAND_SECTIONS}
    section = values.get(command) or {}
    if not isinstance(section, dict):
        raise InputError(f"--config (TRAINING_CONFIG): section {command} of {path} does not contain options by name.")
    return own | {key.replace("-", "_"): value for key, value in section.items()}
