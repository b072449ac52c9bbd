"""What a STORAGE_URL names: apart from the storages, since the settings only check it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PREFIX = r"([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?"


def bucket_of(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`. Raises ValueError."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if re.fullmatch(_BUCKET, parts.netloc) is None or parts.query or parts.fragment:
        raise ValueError("names no bucket: s3://bucket or s3://bucket/prefix")
    if re.fullmatch(_PREFIX, prefix) is None:
        raise ValueError("has a prefix with other characters than letters, digits and . _ - /")
    return parts.netloc, prefix


def folder_of(url: str) -> Path:
    """`file:relative` (to the working directory), `file:/absolute` or `file:///absolute`.

    Raises ValueError when it names no folder of this machine.
    """
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError("names another machine: file:/folder, or file:folder beside the program")
    path = unquote(parts.path)
    if not path or "\0" in path or parts.query or parts.fragment:
        raise ValueError("names no folder: file:/folder, or file:folder beside the program")
    return Path(path).absolute()
