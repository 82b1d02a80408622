# SPDX-License-Identifier: GPL-2.0
"""Writes an uncompressed newc cpio archive, device nodes included, without being root."""

import stat

MAGIC = b"070701"


class Archive:
    """An archive being written to a binary file."""

    def __init__(self, out):
        self._out = out
        self._ino = 0
        self._size = 0
        self._dirs = set()

    def _write(self, data):
        self._out.write(data)
        self._size += len(data)

    def _pad(self):
        self._write(b"\0" * (-self._size % 4))

    def _entry(self, name, mode, data=b"", nlink=1, rdev=(0, 0)):
        self._ino += 1
        raw = name.encode() + b"\0"
        fields = (self._ino, mode, 0, 0, nlink, 0, len(data), 0, 0, rdev[0], rdev[1], len(raw), 0)
        self._write(MAGIC + b"".join(b"%08X" % f for f in fields) + raw)
        self._pad()
        self._write(data)
        self._pad()

    def directory(self, name):
        """Adds a directory and those above it, once."""
        parts = name.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            if path not in self._dirs:
                self._dirs.add(path)
                self._entry(path, stat.S_IFDIR | 0o755, nlink=2)

    def file(self, name, data, mode=0o644):
        """Adds a regular file."""
        name = name.strip("/")
        if "/" in name:
            self.directory(name.rsplit("/", 1)[0])
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        """Adds a symbolic link."""
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def chardev(self, name, major, minor, mode=0o600):
        """Adds a character device node."""
        name = name.strip("/")
        if "/" in name:
            self.directory(name.rsplit("/", 1)[0])
        self._entry(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def close(self):
        """Writes the trailer."""
        self._ino = -1
        self._entry("TRAILER!!!", 0)
        self._write(b"\0" * (-self._size % 512))
