"""Throughput and steadiness of `unirs serve`, with the embedded checkpoint on this machine.

python benchmarks/serving.py [--seconds 20] [--soak 120] [--dtype bfloat16]

A server process is asked by 1 and by 16 clients for `--seconds` each, about generated scenes: questions answered by a
word, changes and pictures to be described in a sentence, and all three by turns. First the server keeps nothing of
what it saw, as if all pictures were new; then another has seen them all. Of this one 32 clients ask for `--soak`
seconds, of clips as well; a tenth of their requests are hostile. Every answer is compared with the one that the same
question had alone; in half precision one may differ by what else is in its batch, and counts as mixed up.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from full_size import machine
from PIL import Image
from unirs.processing.prompts_unirs import DEFAULT_INSTRUCTIONS
from unirs.trainers.scene_tasks import TEST_SEED, clip_sample, pair_sample, single_sample

RESULT = Path(__file__).parent / "results" / "serving.json"
QUESTIONS = 100  # of each kind, dealt out by turns, so that no batch holds a picture twice
HOSTILE: list[Any] = [
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/etc/passwd"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}]},
    {"messages": [{"role": "user", "content": "word " * 100_000}]},
    {"messages": "x", "max_tokens": 10**9},
    "[" * 10_000,
    "x" * (33 * 2**20),
]


def questions() -> dict[str, list[str]]:
    """Requests of each kind, about scenes of RS-World's test split."""
    word = [
        _request(single_sample(TEST_SEED + number).images, "Is it a rural or an urban area?")
        for number in range(QUESTIONS)
    ]
    change = [
        _request(pair_sample(TEST_SEED + number).images, "Please describe the change.") for number in range(QUESTIONS)
    ]
    description = [
        _request(single_sample(TEST_SEED + QUESTIONS + number).images, DEFAULT_INSTRUCTIONS["single"])
        for number in range(QUESTIONS)
    ]
    return {
        "a word": word,
        "a change": change,
        "a description": description,
        "all by turns": [*word, *change, *description],
    }


def clips(count: int) -> list[str]:
    """Requests about clips of RS-World's test split, of H.264."""
    asked = []
    for number in range(count):
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=5)
            frames = clip_sample(TEST_SEED + number).images
            stream.width, stream.height = frames[0].size
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_image(frame)))
            container.mux(stream.encode())
        shown = {"type": "video_url", "video_url": {"url": _data(file, "video/mp4")}}
        asked.append(_turn([shown], DEFAULT_INSTRUCTIONS["video"]))
    return asked


def _request(pictures: Sequence[Image.Image], question: str) -> str:
    shown = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        shown.append({"type": "image_url", "image_url": {"url": _data(file, "image/png")}})
    return _turn(shown, question)


def _data(file: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _turn(shown: list[dict[str, Any]], question: str) -> str:
    """The request's body, written once: clients share the server's cores."""
    content = [*shown, {"type": "text", "text": question}]
    return _body({"messages": [{"role": "user", "content": content}], "max_tokens": 32})


def _body(request: dict[str, Any]) -> str:
    return json.dumps({"model": "unirs-tiny", **request})


def connect(port: int) -> http.client.HTTPConnection:
    """Kept from request to request, as OpenAI's client has it; opened anew where the server closes it."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=120)


def ask(connection: http.client.HTTPConnection, body: str) -> tuple[int, str]:
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    except (BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
        connection.close()
        return 413, ""
    answer = connection.getresponse()
    told = json.loads(answer.read())
    return answer.status, told["choices"][0]["message"]["content"] if answer.status == 200 else ""


def clients(
    port: int, count: int, seconds: float, asked: list[str], alone: list[str], hostile_share: float = 0
) -> dict[str, Any]:
    """Asks from as many threads; counts what came back."""
    until, lock = time.monotonic() + seconds, threading.Lock()
    places = itertools.cycle(np.random.default_rng(0).permutation(len(asked)).tolist())
    hostile = [one if isinstance(one, str) else _body(one) for one in HOSTILE]
    counts = {"good": 0, "hostile": 0, "lost": 0, "mixed_up": 0, "hostile_not_refused": 0}

    def work(number: int) -> None:
        drawn, connection = np.random.default_rng(number), connect(port)
        while time.monotonic() < until:
            with lock:
                place = next(places)
            is_hostile = drawn.random() < hostile_share
            body = hostile[int(drawn.integers(len(hostile)))] if is_hostile else asked[place]
            try:
                status, text = ask(connection, body)
            except (OSError, ValueError, http.client.HTTPException):
                connection.close()
                status, text = 0, ""
            with lock:
                counts["hostile" if is_hostile else "good"] += 1
                if is_hostile:
                    counts["hostile_not_refused"] += not 400 <= status < 500
                else:
                    counts["lost"] += status != 200
                    if status == 200 and text != alone[place]:
                        counts["mixed_up"] += 1
                        print(f"request {place} alone: {alone[place]!r}, here: {text!r}", flush=True)

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


def answers_alone(port: int, asked: list[str]) -> list[str]:
    """What each is answered while nobody else asks."""
    connection, answers = connect(port), []
    for place, body in enumerate(asked):
        status, text = ask(connection, body)
        assert status == 200, f"request {place} alone: status {status}"
        answers.append(text)
    return answers


def measured(given: argparse.Namespace, memory_mb_of_pictures: int, soak: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "unirs.cli", "serve", "--port", "0", "--dtype", given.dtype]
    command += ["--picture-memory-mb", str(memory_mb_of_pictures)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        port = int(server.stderr.readline().split("/v1")[0].rsplit(":", 1)[1])
        threading.Thread(target=server.stderr.read, daemon=True).start()  # its log, or a full pipe would hold it up
        found: dict[str, Any] = {"load_average": os.getloadavg()[0], "cpus": os.cpu_count()}
        kinds = questions()
        for kind, asked in kinds.items():
            alone = answers_alone(port, asked)
            one, sixteen = (clients(port, count, given.seconds, asked, alone) for count in (1, 16))
            ratio = round(sixteen["requests_a_second"] / one["requests_a_second"], 2)
            words = round(sum(len(answer.split()) for answer in alone) / len(alone), 1)
            found[kind] = {"words_an_answer": words, "one": one, "sixteen": sixteen, "ratio": ratio}
            print(kind, found[kind], flush=True)
        if soak:
            filmed = clips(QUESTIONS)
            asked, alone = [*asked, *filmed], [*alone, *answers_alone(port, filmed)]
            clients(port, 32, soak / 4, asked, alone, 0.1)  # what is allocated once is allocated
            before = memory_mb(server.pid)
            found["soak"] = clients(port, 32, soak, asked, alone, 0.1)
            found["soak"] |= {"memory_mb_before": before, "memory_mb_after": memory_mb(server.pid)}
        assert server.poll() is None
        return found
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--soak", type=float, default=120)
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = options.parse_args()
    found = {
        "new pictures": measured(given, 0, 0),
        "pictures asked about before": measured(given, 256, given.soak),
    }
    setting = f"{machine()['machine']}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    if given.dtype != "float32":
        setting += f", {given.dtype}"
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, setting: found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
