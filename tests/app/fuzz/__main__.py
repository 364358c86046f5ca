"""Program that fuzzes a parser with atheris: `TARGET [CORPUS] [options of libFuzzer, such as -max_total_time=600]`."""

import sys

import atheris

with atheris.instrument_imports(include=["app"]):
    from tests.app.fuzz.targets import TARGETS


def main() -> None:
    """Run the target that the first argument names; an input that fails it is written to a file."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.app.fuzz {{{','.join(TARGETS)}}} [corpus] [options]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
