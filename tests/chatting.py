"""A tiny model behind the OpenAI-compatible server, and the official client, for tests."""

import pytest
from unirs.evaluation.models import load_model

openai = pytest.importorskip("openai", reason="openai is not installed: pip install 'unirs[serve]'")

from transformers.cli.serving.chat_completion import ChatCompletionHandler  # noqa: E402

from tests.serving import running, saved  # noqa: E402
from unirs.serving.application import application  # noqa: E402
from unirs.serving.limits import Limits  # noqa: E402

NEW_TOKENS = 8
LIMITS = Limits(request_bytes=2**20, pixels=512 * 512, pictures=8, new_tokens=64, seconds=30, waiting=40, batch=8)
OPENAI = set(ChatCompletionHandler._valid_params_class.__mutable_keys__)


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    return saved(processor, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    """What answers without a server: the oracle."""
    return load_model(str(folder))


@pytest.fixture(scope="module")
def url(folder):
    loaded = load_model(str(folder))
    with running(application("tiny", loaded.network, loaded.processor, LIMITS, hosts={"127.0.0.1"})) as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def said(client, *turns, **options):
    answer = client.chat.completions.create(model="tiny", messages=list(turns), max_tokens=NEW_TOKENS, **options)
    return answer.choices[0].message.content.strip()
