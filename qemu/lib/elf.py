# SPDX-License-Identifier: GPL-2.0
"""As much of ELF as tells a busybox that will run in the guest from one that won't."""

import struct

MACHINE = {"x86_64": 62, "arm64": 183}
PT_INTERP = 3


def why_not_static(data, arch):
    """Returns None for a static 64-bit program of this architecture, else the reason."""
    if data[:4] != b"\x7fELF" or data[4] != 2:
        return "is not a 64-bit ELF program"
    if struct.unpack_from("<H", data, 18)[0] != MACHINE[arch]:
        return f"is not built for {arch}"
    phoff, = struct.unpack_from("<Q", data, 32)
    phentsize, phnum = struct.unpack_from("<HH", data, 54)
    for i in range(phnum):
        if struct.unpack_from("<I", data, phoff + i * phentsize)[0] == PT_INTERP:
            return "is dynamically linked"
    return None
