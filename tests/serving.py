"""A server in a thread of the test's process, and pictures in the form of requests."""

import base64
import http.client
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import uvicorn


@contextmanager
def running(app):
    """The address of an ASGI application that answers on this machine."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def data(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def turn(words, *pictures, clips=(), role="user"):
    """A message of OpenAI's form; pictures are PIL images or urls, clips urls."""
    urls = [one if isinstance(one, str) else data(png(one)) for one in pictures]
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    shown += [{"type": "video_url", "video_url": {"url": url}} for url in clips]
    return {"role": role, "content": [*shown, {"type": "text", "text": words}]}


def image(url):
    return turn("What?", url)


def post(url, body, path="/v1/chat/completions", method="POST", **headers):
    """Status and body, by no client that would mend the request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def saved(processor, folder):
    """The folder, with a tiny model."""
    from tests.tiny import tiny_model  # needs peft, which is not beside vLLM, whose tests use the rest of this file

    tiny_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
