"""`python -m app`: operators' commands."""

import gc

from app.cli import main

if __name__ == "__main__":
    # While modules are loaded nothing becomes garbage. app/commands/session.py puts it on again.
    gc.disable()
    try:
        main()
    finally:
        # At exit all memory goes back anyway: looking through it first takes longer than Redis did.
        gc.freeze()
