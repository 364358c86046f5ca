"""Files that a program of the tests makes once, with a different Python and different packages than the tests have."""

import os
import shutil
import subprocess
from pathlib import Path

from tools.bench.environments import AS_OF, interpreter, uv
from tools.cluster.cache import CACHE, key_of
from tools.cluster.programs import only_one


def made_by(program: Path, name: str, python: str, packages: tuple[str, ...], last: str, *, kept: bool = False) -> Path:
    """Return the cached folder that `program FOLDER` filled.

    Args:
        program: Program, which runs in an environment of its own.
        name: Name of the folder in the cache.
        python: Version of Python.
        packages: Packages of the environment.
        last: Name of the file that the program writes last.
        kept: Whether the folder keeps its environment.
    """
    folder = CACHE / f"{name}-{key_of([program], AS_OF, python, *packages)}"
    with only_one(name):
        if (folder / last).exists():
            return folder
        for old in CACHE.glob(f"{name}-*/"):
            shutil.rmtree(old)
        found = folder / "environment" / "bin" / "python"
        variables = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        commands: list[list[str | Path]] = [
            [uv(), "venv", "--python", interpreter(python), folder / "environment"],
            [uv(), "pip", "install", "--python", found, "--exclude-newer", AS_OF, *packages],
            [found, program, folder],
        ]
        for command in commands:
            subprocess.run(command, env=variables, check=True)
        if not kept:
            shutil.rmtree(folder / "environment")
    return folder
