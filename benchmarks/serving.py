"""Throughput and steadiness of `unirs serve`, with the embedded checkpoint on this machine.

python benchmarks/serving.py [--seconds 20] [--soak 120]

A server process is asked by 1 and by 16 clients for `--seconds` each; then by 32 clients for `--soak` seconds, a tenth
of whose requests are hostile. Every answer is compared with the answer that the same question had alone.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULT = Path(__file__).parent / "results" / "serving.json"
QUESTIONS = 12
HOSTILE: list[Any] = [
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}]},
    {"messages": [{"role": "user", "content": "word " * 100_000}]},
    {"messages": "x", "max_tokens": 10**9},
    "[" * 10_000,
    "x" * (33 * 2**20),
]


def questions() -> list[dict[str, Any]]:
    """Singles and pairs of noise, so that no two requests are alike."""
    made = []
    for number in range(QUESTIONS):
        content: list[dict[str, Any]] = [
            {"type": "text", "text": f"Question {number}: is it a rural or an urban area?"}
        ]
        for place in range(1 + number % 2):
            pixels = np.random.default_rng(10 * number + place).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        made.append({"messages": [{"role": "user", "content": content}], "max_tokens": 16})
    return made


def ask(port: int, body: Any) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        content = body if isinstance(body, str) else json.dumps({"model": "unirs-tiny", **body})
        try:
            connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
        except (BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            return 413, ""
        answer = connection.getresponse()
        told = json.loads(answer.read())
        return answer.status, told["choices"][0]["message"]["content"] if answer.status == 200 else ""
    finally:
        connection.close()


def clients(port: int, count: int, seconds: float, alone: list[str], hostile_share: float = 0) -> dict[str, Any]:
    """Asks from as many threads; counts what came back."""
    asked, until, lock = questions(), time.monotonic() + seconds, threading.Lock()
    counts = {"good": 0, "hostile": 0, "lost": 0, "mixed_up": 0, "hostile_not_refused": 0}

    def work(number: int) -> None:
        drawn = np.random.default_rng(number)
        while time.monotonic() < until:
            place = int(drawn.integers(len(asked)))
            is_hostile = drawn.random() < hostile_share
            body = HOSTILE[int(drawn.integers(len(HOSTILE)))] if is_hostile else asked[place]
            try:
                status, text = ask(port, body)
            except (OSError, ValueError, http.client.HTTPException):
                status, text = 0, ""
            with lock:
                counts["hostile" if is_hostile else "good"] += 1
                if is_hostile:
                    counts["hostile_not_refused"] += not 400 <= status < 500
                else:
                    counts["lost"] += status != 200
                    counts["mixed_up"] += status == 200 and text != alone[place]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    start = time.monotonic()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    passed = time.monotonic() - start
    return {
        "clients": count,
        "seconds": round(passed, 1),
        "requests_a_second": round(counts["good"] / passed, 2),
    } | counts


def memory_mb(process: int) -> int:
    """Resident memory, from /proc."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--soak", type=float, default=120)
    given = options.parse_args()
    command = [sys.executable, "-m", "unirs.cli", "serve", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        port = int(server.stderr.readline().split("/v1")[0].rsplit(":", 1)[1])
        alone = [ask(port, body)[1] for body in questions()]
        found: dict[str, Any] = {"load_average": os.getloadavg()[0], "cpus": os.cpu_count()}
        found["one"] = clients(port, 1, given.seconds, alone)
        found["sixteen"] = clients(port, 16, given.seconds, alone)
        found["ratio"] = round(found["sixteen"]["requests_a_second"] / found["one"]["requests_a_second"], 2)
        clients(port, 32, given.soak / 4, alone, 0.1)  # what is allocated once is allocated
        before = memory_mb(server.pid)
        found["soak"] = clients(port, 32, given.soak, alone, 0.1)
        found["soak"] |= {"memory_mb_before": before, "memory_mb_after": memory_mb(server.pid)}
        assert server.poll() is None
    finally:
        server.terminate()
        server.wait()
    threads = f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, threads: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
