"""What every command can be told: by flag, environment variable or file, in this order of precedence.

A file (`--config`, TRAINING_CONFIG; YAML, TOML or JSON) holds the fields by name; those that one command alone knows
may stand in a section of its name, so that `train` and `promote` can share a file.
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
_file: ContextVar[dict[str, Any]] = ContextVar("the values of the file that --config names")
# Sections of a file; each is read by the command of its name alone.
COMMAND_SECTIONS = ("train", "promote", "rollback", "reproduce", "score", "describe", "upload")

Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _free_alias(alias: str) -> str:
    """Refuse what MLflow reserves now, not after the training."""
    if alias.lower() == "latest" or re.fullmatch(r"v\d+", alias, re.IGNORECASE):
        raise ValueError("MLflow reserves 'latest' and 'v<number>'; choose another alias")
    return alias


Alias = Annotated[str, Field(pattern=_ALIAS), AfterValidator(_free_alias)]


def server_address(uri: str) -> str:
    """Return the address of an MLflow server without a slash at its end.

    Paths and databases are none: MLflow would quietly write to the container's own disk. Passwords do not belong in it:
    MLflow prints the URI in links and errors, so what stands in it ends in logs.

    Raises:
        ValueError: it is none.
    """
    url = _HTTP_URL.validate_python(uri)
    if url.username or url.password:
        raise ValueError("credentials belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, not in the URI")
    return uri.rstrip("/")


class Settings(BaseSettings):
    """The options of all commands; a command's own class adds its own.

    Every option is also an environment variable: TRAINING_MODEL_NAME, ...; without the prefix only
    MLFLOW_TRACKING_URI and GIT_COMMIT, which are not of our making.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRAINING_",
        env_ignore_empty=True,  # an empty variable is what a chart renders for "not set"
        cli_kebab_case=True,
        cli_implicit_flags=True,  # --dry-run, and --no-dry-run
        frozen=True,
    )

    config: Path | None = Field(default=None, description="File with these options: YAML, TOML or JSON.")
    mlflow_tracking_uri: str = Field(
        validation_alias="mlflow_tracking_uri", description="MLflow server, http:// or https://."
    )
    git_commit: str = Field(
        default="",
        validation_alias="git_commit",
        description="Commit of this code, when it runs without .git; ends in -dirty when files differ from it.",
    )
    model_name: str = Field(
        default="breast-cancer", pattern=_MODEL_NAME, description="Registered model; also the experiment."
    )
    result: Path | None = Field(default=None, description="File that gets the JSON of the last line on stdout.")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_a_server(cls, uri: str) -> str:
        """Refuse paths, databases and passwords."""
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
        """Add the file, after the environment."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _file.get({}))

    @classmethod
    def load(cls, command: str, argv: Sequence[str]) -> Self:
        """Return the settings of a command from its flags, the environment and a file.

        Raises:
            InputError: names each option that is wrong, by its flag and its variable, and never its value.
            SystemExit: argparse's own, for --help and unknown flags.
        """
        sections = _file.set(_read(_config_path(argv), command))
        try:
            source: CliSettingsSource[Any] = CliSettingsSource(cls, cli_prog_name=f"python -m training {command}")
            return CliApp.run(cls, cli_args=list(argv), cli_settings_source=source)
        except ValidationError as error:
            problems = (cls._problem(detail["loc"], detail["msg"]) for detail in error.errors())
            raise InputError("; ".join(problems)) from None
        except SettingsError as error:
            raise InputError(f"{error}: it is read as JSON.") from None
        finally:
            _file.reset(sections)

    @classmethod
    def _problem(cls, location: tuple[int | str, ...], message: str) -> str:
        """Name a wrong setting by its flag and its variable: a chart sets the one, a person the other."""
        if not location:
            return message.removeprefix("Value error, ")
        field, *inner = (str(part) for part in location)
        if field not in cls.model_fields:
            return f"{field} is no option of this command"
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
    """Return the file's values for a command: those outside of sections, and those in the command's own."""
    if not path:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.endswith(".toml") else yaml.safe_load(text)  # JSON is YAML
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config (TRAINING_CONFIG): {path} cannot be read ({error}).") from None
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"--config (TRAINING_CONFIG): {path} is not what its name says: {what}.") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"--config (TRAINING_CONFIG): {path} holds no options by name.")
    values = {key.replace("-", "_"): value for key, value in values.items()}
    own = {key: value for key, value in values.items() if key not in COMMAND_SECTIONS}
    section = values.get(command) or {}
    if not isinstance(section, dict):
        raise InputError(f"--config (TRAINING_CONFIG): section {command} of {path} holds no options by name.")
    return own | {key.replace("-", "_"): value for key, value in section.items()}
