#!/usr/bin/env python3
"""runc for machines whose root lacks capabilities, such as containers: the engine asks for all, this removes those.

The engine calls it in place of runc with runc's own arguments. Standard library only.
"""

import json
import os
import sys
from pathlib import Path

# Numbers of <linux/capability.h>.
NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()  # noqa: SIM905 - a list is 41 lines


def missing() -> set[str]:
    """Return the capabilities that this process can never have."""
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)
    return {f"CAP_{name}" for number, name in enumerate(NAMES) if not bounding >> number & 1}


def remove(document: Path, *path: str) -> None:
    """Remove the missing capabilities from the sets at `path` of a JSON file, if it has any."""
    whole = json.loads(document.read_text())
    node = whole
    for key in path:
        node = node.get(key) or {}
    absent = missing()
    for name, held in (node.get("capabilities") or {}).items():
        node["capabilities"][name] = [each for each in held or [] if each not in absent]
    document.write_text(json.dumps(whole))


def option(arguments: list[str], *names: str) -> str | None:
    """Return the value of an option in either spelling (`--bundle X`, `--bundle=X`), or None."""
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else arguments[index + 1]
    return None


def main() -> None:
    """Correct the bundle or the process that runc is about to start, then become runc."""
    arguments = sys.argv[1:]
    bundle = Path(option(arguments, "--bundle", "-b") or ".") / "config.json"
    process = option(arguments, "--process", "-p")
    if {"create", "run"} & set(arguments) and bundle.is_file():
        remove(bundle, "process")
    elif "exec" in arguments and process:
        remove(Path(process))
    os.execvp("runc", ["runc", *arguments])  # noqa: S606 - the engine's own arguments


if __name__ == "__main__":
    main()
