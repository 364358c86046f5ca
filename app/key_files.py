"""API keys and feedback signing keys, read from a folder with one key per file, such as a mounted Secret.

Uses only the standard library, because app.tools.check imports this module.
"""

from pathlib import Path

SHORTEST = 16  # characters; a shorter key could be guessed
LONGEST = 1024


def read(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the usable keys by file name, and one message for each file without a usable key.

    Raises:
        OSError: The folder itself cannot be read.
    """
    keys, unusable = {}, []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("..") or path.is_dir():  # entries that the kubelet uses to replace all files at once
            continue
        try:
            keys[path.name] = _key(path)
        except (OSError, ValueError) as error:
            unusable.append(f"{path.name} {getattr(error, 'strerror', None) or error}")
    return keys, unusable


def _key(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LONGEST + 2).strip()  # without the newline that editors add
    if not SHORTEST <= len(content) <= LONGEST:
        raise ValueError(f"must have {SHORTEST} to {LONGEST} characters")
    if not all(0x21 <= byte <= 0x7E for byte in content):
        raise ValueError("contains a blank or a character that is not printable ASCII")
    return content.decode("ascii")
