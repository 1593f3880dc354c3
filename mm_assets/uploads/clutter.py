"""What operating systems and programs leave among people's files: neither data nor fault."""

from __future__ import annotations

from mm_assets.reading.images import is_image

_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_SYSTEM_FILES = {
    ".DS_Store", "Icon\r", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini"
}  # fmt: skip
# Folders that are not hidden by a dot, and are nobody's data all the same.
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "__pycache__"}


def is_clutter_name(name: str) -> bool:
    """Whether the name of a file or a folder alone says so."""
    locks = name.startswith("~$") or (name.startswith(".~lock.") and name.endswith("#"))
    return name in _SYSTEM_FILES or name in _SYSTEM_FOLDERS or locks


def clutter(path: str, head: bytes) -> str | None:
    """Why a file is no data, in words, or None. head: its first bytes."""
    *folders, name = path.split("/")
    for folder in folders:
        if is_clutter_name(folder) or folder.startswith("."):
            return f"in a folder that a program keeps for itself ({folder})"
    if name.startswith("._") and (head.startswith(_APPLE_DOUBLE) or not is_image(head)):
        return "made by macOS beside the file itself"
    if name.startswith(("~$", ".~lock.")) and is_clutter_name(name):
        return "the lock of an office program on an open file"
    return "made by an operating system" if is_clutter_name(name) else None
