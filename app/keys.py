"""Read API keys from a folder with one key a file, as the kubelet mounts a Secret.

Standard library only: app.check reads them too.
"""

from pathlib import Path

SHORTEST = 16  # characters: what can be guessed is no key
LONGEST = 1024


def read(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the usable keys by the names of their files, and a sentence for each file that holds none.

    Raises:
        OSError: the folder itself cannot be read.
    """
    keys, unusable = {}, []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("..") or path.is_dir():  # the kubelet's own, by which it swaps all files at once
            continue
        try:
            keys[path.name] = _key(path)
        except (OSError, ValueError) as error:
            unusable.append(f"{path.name} {getattr(error, 'strerror', None) or error}")
    return keys, unusable


def _key(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LONGEST + 2).strip()  # an editor's newline is no part of the key
    if not SHORTEST <= len(content) <= LONGEST:
        raise ValueError(f"has not {SHORTEST} to {LONGEST} characters")
    if not all(0x21 <= byte <= 0x7E for byte in content):
        raise ValueError("holds a blank or a character that is not ASCII")
    return content.decode("ascii")
