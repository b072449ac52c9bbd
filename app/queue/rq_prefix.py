"""Under what RQ keeps its keys, asked of RQ without loading it."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def rq_prefix() -> str:
    """`rq`, or what RQ_KEY_PREFIX says.

    RQ 3.0 reads and checks that variable in `rq/defaults.py`, which needs nothing of the rest;
    but `import rq.defaults` loads all of RQ, half of the time of a short command. So the file is
    run by itself. To be removed when `import rq` loads what is asked for.
    """
    package = importlib.util.find_spec("rq")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'rq'", name="rq")
    path = Path(package.origin).with_name("defaults.py")
    spec = importlib.util.spec_from_file_location("rq_defaults", path)
    assert spec is not None and spec.loader is not None, "a file of Python can be loaded"
    defaults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(defaults)
    return str(defaults.RQ_KEY_PREFIX)
