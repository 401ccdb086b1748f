"""Unpacks wheels into one folder, for a Python that cannot create virtual environments or is too old for the wheels.

    python unpack_wheels.py PREFIX WHEEL...

Packages are in PREFIX itself, other files as usual: PREFIX/bin, PREFIX/lib, PREFIX/include. Runs on Python 3.6.
"""

import os
import sys
import zipfile

# The files of `NAME.data/KEY/...` in a wheel belong in PREFIX/VALUE/...
PLACES = {"data": "", "purelib": "", "platlib": "", "scripts": "bin", "headers": "include"}


def place(prefix, name):
    parts = name.split("/")
    if parts[0].endswith(".data") and len(parts) > 2:
        parts = [PLACES[parts[1]]] + parts[2:]
    path = os.path.normpath(os.path.join(prefix, *parts))
    if not path.startswith(os.path.join(prefix, "")):
        raise SystemExit("%s is outside %s" % (name, prefix))
    return path


def unpack(prefix, wheel):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("/"):
                continue
            path = place(prefix, entry.filename)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            mode = entry.external_attr >> 16
            if os.path.lexists(path):
                os.remove(path)
            if mode & 0o170000 == 0o120000:  # a symbolic link
                os.symlink(archive.read(entry).decode(), path)
                continue
            with archive.open(entry) as source, open(path, "wb") as target:
                while True:
                    piece = source.read(1 << 22)
                    if not piece:
                        break
                    target.write(piece)
            os.chmod(path, 0o755 if mode & 0o111 or "/bin/" in path else 0o644)


if __name__ == "__main__":
    for wheel in sys.argv[2:]:
        unpack(os.path.abspath(sys.argv[1]), wheel)
