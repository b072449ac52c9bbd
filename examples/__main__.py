"""`python -m examples --port N`: serves the application on this machine.

RECADO_URL and RECADO_KEY say where the service is and who we are; EXAMPLES_SECRET signs
tokens that outlive a restart.
"""

from __future__ import annotations

import argparse
import os

import uvicorn

from examples.app import Configuration, create_app
from examples.recado import Recado

HOST = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(prog="examples", description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    port: int = parser.parse_args().port
    recado = Recado(
        os.environ.get("RECADO_URL", f"http://{HOST}:8000"), os.environ.get("RECADO_KEY") or None
    )
    url = f"http://{HOST}:{port}"
    secret = os.environ.get("EXAMPLES_SECRET")
    configuration = (
        Configuration(url, recado, secret=secret.encode()) if secret else Configuration(url, recado)
    )
    uvicorn.run(create_app(configuration), host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    main()
