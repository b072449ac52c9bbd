"""`python -m app`: operators' commands."""

import gc
import os
import sys


def leave(status: int) -> None:
    """End at once, when all is written that was said.

    At exit all memory goes back anyway: to take a few hundred modules apart piece by piece first
    took 8 ms. A command joins its threads when it closes its loop, and leaves nothing to `atexit`.
    """
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # nobody takes it: the interpreter says so, with a status of its own
    os._exit(status)


if __name__ == "__main__":
    # While modules are loaded nothing becomes garbage. app/commands/session.py puts it on again.
    gc.disable()
    from app.cli import main

    try:
        main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"app", "jobs"}:
            raise
        # The Python of the system, where bin/dev has made an environment.
        sys.exit(
            f"recado: {error.name} is not installed for this Python; beside bin/dev type"
            " .venv/bin/python -m app, elsewhere: python -m pip install -r requirements.txt"
        )
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            leave(error.code or 0)
        raise
    leave(0)
