"""Reference pages that MkDocs makes from the code whenever it builds the site (`hooks` in mkdocs.yml)."""

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from inspect import cleandoc
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic_settings import BaseSettings
from pydantic_settings.sources.types import _CliPositionalArg

import training.__main__
from app.errors import ProblemError, problem_document
from app.settings import Settings as ServiceSettings
from app.tools import check, verify
from training.settings import Settings as SharedOptions

ROOT = Path(__file__).parents[2]
CHARTS = ("model-service", "observability/charts/mlflow", "observability")
HELP_COLUMNS = "100"
# What JSON schema calls the limits of a number.
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

type Row = tuple[str, ...]


def settings() -> str:
    """Return the page of the service's environment variables."""
    rows = [(f"`{_variable(ServiceSettings, name)}`", *_described(schema)) for name, schema in _fields(ServiceSettings)]
    return f"""# Settings of the service

The service reads environment variables. The chart sets them from its [values](values.md). Set others in `extraEnv`.
An empty variable has the default. An invalid value ends the process with a message that names the variable.

{_table(("Variable", "Value", "Default", "Description"), rows)}

The options of training are on the page [CLI](cli.md).
"""


def errors() -> str:
    """Return the page of the problem types."""
    rows = []
    for kind in sorted(ProblemError.__subclasses__(), key=lambda kind: (kind.status, kind.slug)):
        cause, remedy = causes(kind)
        name = problem_document(kind.status, kind.slug, "")["type"]
        reason = f"`{kind.reason}`" if kind.reason else "not counted"
        rows.append((str(int(kind.status)), f"`{name}`", cause, remedy, reason))
    return f"""# Errors of the service

An error response of `/predict`, `/explain`, `/feedback` and `/model` is a problem document (RFC 9457) of the media type
`application/problem+json`. Its member `type` is one of these names. The `reason` is the label of the metric
`model_errors_total`. Other errors, such as an unknown path, have the type `about:blank`.

{_table(("Status", "Type", "Cause", "Remedy", "Reason"), rows)}

The paths of MLflow's protocol and of the Open Inference Protocol return these errors in [their own form](protocols.md).
"""


def causes(kind: type[ProblemError]) -> tuple[str, str]:
    """Return cause and remedy of a problem type, which are the first line and the last paragraph of its docstring.

    Raises:
        ValueError: The docstring has no remedy.
    """
    cause, *_, last = cleandoc(kind.__doc__ or "").split("\n\n")
    if not last.startswith("Remedy: "):
        raise ValueError(f"{kind.__name__}: the last paragraph of the docstring must begin with 'Remedy: '")
    return _escaped(cause), _escaped(" ".join(last.removeprefix("Remedy: ").split()))


def values() -> str:
    """Return the page of the charts' values: the tables of their READMEs, by the first part of the key."""
    parts = ["# Values of the charts\n\nEach key is validated by the schema of its chart when Helm renders it."]
    for chart in CHARTS:
        readme = (ROOT / "charts" / chart / "README.md").read_text()
        rows = [
            tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            for line in readme.partition("\n## Values\n")[2].splitlines()
            if line.startswith("| ") and not line.startswith("| Key ")
        ]
        parts.append(f"## {Path(chart).name}")
        for heading, group in groupby(sorted(rows, key=_top), key=_top):
            if heading:
                parts.append(f"### {heading}")
            cells = ((f"`{key}`", *others) for key, *others in group)
            parts.append(_table(("Key", "Type", "Default", "Description"), cells))
    return "\n\n".join(parts) + "\n"


def cli() -> str:
    """Return the page of the command lines."""
    parts = [
        "# CLI",
        "## `python -m training`",
        "Each option is a flag, an environment variable and a key of the file that `--config` names (YAML, TOML or "
        "JSON). A flag overrides a variable, and a variable overrides the file. Commands print their result as JSON.",
        *_exit_codes(training.__main__),
        "### Options of every command",
        _options(SharedOptions),
    ]
    for name in training.__main__.COMMANDS:
        command = import_module(f"training.commands.{name}")
        summary = cleandoc(command.Options.__doc__).partition("\n")[0]
        parts += [f"### {name}", summary, *_exit_codes(command), _options(command.Options, known=SharedOptions)]
    for main, name in ((check.main, "check"), (verify.main, "verify")):
        parts += [f"## `python -m app.tools.{name}`", f"```text\n{_help(main)}\n```"]
    return "\n\n".join(parts) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/settings.md": settings,
    "reference/errors.md": errors,
    "reference/values.md": values,
    "reference/cli.md": cli,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site; MkDocs calls this after it has listed the committed ones."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def _options(options: type[BaseSettings], known: type[BaseSettings] | None = None) -> str:
    """Return the table of a command's options, without those that are the same in `known`."""
    shared = dict(_fields(known)) if known else {}
    rows = []
    for name, schema in _fields(options):
        if shared.get(name) != schema:
            positional = _CliPositionalArg in options.model_fields[name].metadata
            flag = f"`<{name}>`" if positional else f"`--{name.replace('_', '-')}`"
            rows.append((flag, f"`{_variable(options, name)}`", *_described(schema)))
    return _table(("Option", "Variable", "Value", "Default", "Description"), rows)


def _fields(options: type[BaseSettings]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each field's name and JSON schema."""
    schema = options.model_json_schema(by_alias=False)
    for name, field in schema["properties"].items():
        yield name, field | {"required": name in schema.get("required", ())}


def _variable(options: type[BaseSettings], name: str) -> str:
    """Return the environment variable of a field."""
    alias = options.model_fields[name].validation_alias
    return str(alias).upper() if alias else f"{options.model_config['env_prefix']}{name.upper()}"


def _described(schema: dict[str, Any]) -> Row:
    """Return what a field accepts, its default and its description."""
    default = schema.get("default")
    if schema["required"]:
        shown = "required"
    elif "default" not in schema:
        shown = "computed"
    else:
        shown = f"`{json.dumps(default).strip('"')}`" if default not in (None, "", [], {}) else ""
    return _accepted(schema), shown, _escaped(schema.get("description", ""))


def _escaped(text: str) -> str:
    """Return text for a cell of a table; only the parts in backticks may contain < as it is."""
    parts = text.replace("|", r"\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _accepted(schema: dict[str, Any]) -> str:
    """Return the type of a field in words, with its choices or limits."""
    if "anyOf" in schema:
        return " or ".join(_accepted(each) for each in schema["anyOf"] if each.get("type") != "null")
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [f"{sign} {schema[name]}" for name, sign in LIMITS.items() if name in schema]
    return ", ".join([{"array": "list", "object": "JSON object"}.get(schema["type"], schema["type"]), *limits])


def _exit_codes(module: ModuleType) -> list[str]:
    """Return the paragraph of a module's docstring that explains its exit codes, if it has one."""
    return [text for text in cleandoc(module.__doc__ or "").split("\n\n") if text.startswith("Exit codes")]


def _help(main: Callable[[list[str]], int]) -> str:
    """Return what a command prints for --help."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_COLUMNS
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            main(["--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue().strip()


def _top(row: Row) -> str:
    """Return the first part of a nested key; "" sorts the keys of the top level first."""
    top, dot, _ = row[0].partition(".")
    return top if dot else ""


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
