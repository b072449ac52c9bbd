"""Fills a queue by a peer's own client: `python -m client MODULE fill KIND COUNT`.

Here, since a module that is itself run would name its functions `__main__.noop`.
"""

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(sys.argv.pop(1)).main()
