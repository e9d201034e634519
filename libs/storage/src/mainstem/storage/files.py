"""Files that are there whole or not at all, whatever ends the process or the machine."""

import os
from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Put a file in the place of what is there, durably: written beside it, synced, renamed, and the folder synced.

    Who reads meanwhile has the one or the other. One writer a file; what a writer that died left is written over.
    Raises OSError with what was there unchanged.
    """
    partial = file.with_name(f".{file.name}.new")
    with partial.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably; one that is there stays as it is."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
