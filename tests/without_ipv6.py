"""Run Python in a process for which the kernel has no IPv6: python tests/without_ipv6.py <arguments of python>"""

import ctypes
import os
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}  # number of the system call
AF_INET6, EAFNOSUPPORT = 10, 97
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    """The filter as the kernel reads it."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    """Refuse socket(AF_INET6, …) with EAFNOSUPPORT, and replace this process by Python."""
    steps = [
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 3, SOCKET[os.uname().machine]),
        (LOAD, 0, 0, 16),
        (EQUAL, 0, 1, AF_INET6),
        (RETURN, 0, 0, ERROR | EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = Program(len(steps), ctypes.cast(code, ctypes.c_char_p))
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        sys.exit("the filter was refused")
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - the arguments of the test


if __name__ == "__main__":
    main()
