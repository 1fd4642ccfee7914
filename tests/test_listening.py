"""Where servers listen."""

import socket

import pytest

from unirs.listening import listen
from unirs.terminal import InputError


def test_answers_do_not_wait_for_acknowledgements():
    """Nagle's algorithm held back the second part of every answer but the first of a connection, 40 ms each."""
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_told():
    with listen("127.0.0.1", 0) as listening, pytest.raises(InputError, match="give another --port"):
        listen("127.0.0.1", listening.getsockname()[1])
