"""Requests to the web page as programs make them."""

import http.client
import uuid


def ask(page, method, path, body=None, **headers):
    """Status and body; the path goes as it is, with its dots.

    Args:
        page: Address first.
    """
    connection = http.client.HTTPConnection(page[0], timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def form(content, name="scene.png"):
    """Body of an upload, and its type."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def upload(page, content, name="scene.png", **headers):
    body, kind = form(content, name)
    return ask(page, "POST", "/gradio_api/upload", body, Content_Type=kind, **headers)
