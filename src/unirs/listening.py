"""What `unirs serve` and `unirs app` share: where they listen, how they are called, units of their limits."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from .model_source import EMBEDDED
from .terminal import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MEGABYTE = 2**20
MEGAPIXEL = 10**6


def listen(host: str, port: int) -> socket.socket:
    """Before the model is loaded: a port that is taken is told at once.

    Raises:
        InputError: It cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        other = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); give another {other}"
        ) from error
    # Every connection inherits it. asyncio would set it on its own sockets alone; without it the second answer of a
    # connection that is kept waits 40 ms for the client to acknowledge the first part of it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def own_names(host: str) -> set[str] | None:
    """Names by which requests may call a server that listens on loopback; None, any, for one that others reach."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        is_loopback = host.lower() == "localhost"
    return {*LOOPBACK, "[::1]", host.lower()} if is_loopback else None


def address(host: str, port: int) -> str:
    """What a browser is given."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def served_name(model: str | None) -> str:
    """What `--model` is called: its folder's name, or its hub id."""
    folder = os.path.abspath(os.path.expanduser(model or ""))
    return (os.path.basename(folder) if model and os.path.isdir(folder) else model) or EMBEDDED
