"""vLLM says what `generate` says, token by token, in float32. `make test-vllm` makes a venv that has it."""

import base64
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# Before vLLM is imported: the engine in this process, a small cache, nothing from the network. Where there is no vLLM,
# the tests of other files run in this process, and are to find the environment as it is.
if find_spec("vllm") is not None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
vllm = pytest.importorskip("vllm", reason="vllm is not installed here: `make test-vllm`")

import torch  # noqa: E402
from unirs.hub.publish import publish  # noqa: E402
from unirs.trainers.scene_tasks import TEST_SEED, clip_sample, pair_sample, single_sample  # noqa: E402

import unirs  # noqa: E402

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


def for_vllm(conversation):
    """The same in vLLM's form."""

    def item(one):
        if one["type"] == "image":
            return {"type": "image_pil", "image_pil": one["image"]}
        if one["type"] == "video":
            url = "data:video/mp4;base64," + base64.b64encode(one["video"]).decode()
            return {"type": "video_url", "video_url": {"url": url}}
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
        for frame in clip_sample(TEST_SEED, 144).images:
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
    return dict(zip(NAMES, made, strict=True))


@pytest.fixture(scope="module")
def expected(folder, conversations):
    """By name, ids of the prompt and of the answer, by transformers."""
    processor = unirs.UniRSProcessor.from_pretrained(folder)
    model = unirs.UniRSForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def ask(conversation, **template):
        inputs = processor.encode_chats([conversation], template)
        made = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        return inputs["input_ids"][0].tolist(), made[0, inputs["input_ids"].shape[1] :].tolist()

    found = {name: ask(conversation) for name, conversation in conversations.items()}
    return {**found, "without fusion": ask(conversations["pair"], change_extraction=False)}


@pytest.fixture(scope="module")
def llm(folder, expected):
    """After `expected`: vLLM changes transformers' classes in its process."""
    media = {"video": {"num_frames": -1}}  # all, so that the model's own rule chooses
    return vllm.LLM(str(folder), media_io_kwargs=media, **SETTINGS)


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
