"""The ports that bin/dev gives its parts, and tests their servers."""

from __future__ import annotations

import socket
import sys
from contextlib import closing

import pytest

from app.dev.claims import Ports
from app.dev.probes import HOST

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux only")


def listening(port: int) -> socket.socket:
    return socket.create_server((HOST, port))


def test_only_who_names_a_port_gets_it() -> None:
    with closing(Ports(2)) as ports:
        first, second = ports.numbers
        assert first != second
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, first))  # as the kernel looks for any: without SO_REUSEADDR

        for _ in range(2):  # it ends, and starts again
            with listening(first), socket.create_connection((HOST, first)):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, first))
