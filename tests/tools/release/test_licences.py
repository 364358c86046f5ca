"""Tests that every package in the images has an allowed licence."""

import re

from tools.release.licences import licences

ALLOWED = re.compile(
    r"(0BSD|3-Clause BSD|Apache|Apache-2\.0|Apache Software|BSD|BSD-[23]-Clause|CC0-1\.0|MIT|MIT-0|MIT-CMU|MPL-2\.0"
    r"|Mozilla Public|PSF-2\.0|Python Software Foundation|Zlib)( License)?( 2\.0)?( \(MPL 2\.0\))?"
)
# Checked by a person, because the metadata has no licence or one that is not in the list.
READ = {
    "huey": "",  # MIT, in its LICENSE
    "psycopg": "LGPL-3.0-only",  # used as it is, as a library that anybody can replace in the image
    "psycopg-binary": "LGPL-3.0-only",
    "pysimdjson": "",  # MIT, and simdjson's Apache-2.0, in its LICENSE
    "skops": "OSI Approved",  # MIT, in its LICENSE
}


def test_licences_are_allowed() -> None:
    found = dict(licences())

    refused = {
        name: licence
        for name, licence in found.items()
        if not all(
            ALLOWED.fullmatch(part) for part in re.split(r", | AND | OR ", re.sub(r"AND \((.*)\)$", r"AND \1", licence))
        )
        and READ.get(name) != licence
    }
    assert refused == {}
    assert len(found) > 90
    assert READ.keys() <= found.keys()
