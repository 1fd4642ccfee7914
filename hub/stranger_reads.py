"""Loads a folder in every way that a user does, and writes what came out. Run as a script, where `unirs` is absent.

`python stranger_reads.py FOLDER OUT` loads with `trust_remote_code=True`; with a third argument, the folder of the
processor, it imports `unirs` instead.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    pipeline,
)

# transformers 5.17 hides this name where torchvision does not import; the class itself works without.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

FOLDER, OUT, PACKAGE = sys.argv[1], Path(sys.argv[2]), len(sys.argv) > 3
PROCESSOR = sys.argv[3] if PACKAGE else FOLDER
ADAPTER = (Path(FOLDER) / "adapter_config.json").is_file()
LENGTH = {"max_new_tokens": 4}

if PACKAGE:
    import unirs  # noqa: F401

    trust = {}
else:
    assert importlib.util.find_spec("unirs") is None, "the package is here: this is no stranger's machine"
    trust = {"trust_remote_code": True}

drawn = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
pictures = [Image.fromarray(one) for one in drawn]
contents = {
    "single": [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "Is there a road in the image?"}],
    "pair": [{"type": "image", "image": one} for one in pictures[:2]],
    "clip": [{"type": "video", "video": pictures}],
}
chats = {name: [{"role": "user", "content": content}] for name, content in contents.items()}

# 1) logits and the stock pipeline
processor = AutoProcessor.from_pretrained(PROCESSOR, **trust)
model, loading = AutoModelForImageTextToText.from_pretrained(FOLDER, output_loading_info=True, **trust)
assert not loading["missing_keys"], f"left random: {sorted(loading['missing_keys'])[:5]}"
tensors = {}
for name, chat in chats.items():
    inputs = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.no_grad():
        tensors[f"logits.{name}"] = model(**inputs).logits.float()
answers = {}
# An adapter's pipelines and other classes load its base model, which has a check of its own.
stock = pipeline("image-text-to-text", model=model, processor=processor) if ADAPTER else None
del model  # one at a time: it may be large
if stock is None:
    stock = pipeline("image-text-to-text", model=FOLDER, **trust)
for name, chat in chats.items():
    answers[f"stock.{name}"] = stock(text=chat, return_full_text=False, **LENGTH)[0]["generated_text"]
del stock

# 2) every other way in
if not ADAPTER:
    for task, given in (
        ("rs-visual-question-answering", (pictures[0], "Is there a road?")),
        ("change-captioning", pictures[:2]),
        ("video-scene-classification", (pictures,)),
    ):
        answers[task] = pipeline(task, model=FOLDER, **trust)(*given, **LENGTH)["answer"]
    config = AutoConfig.from_pretrained(FOLDER, **trust)
    assert config.model_type == "unirs"
    # transformers 5.23 finds no int8 matrix under a base model's shorter names
    quantized = hasattr(config, "quantization_config")
    for auto in (AutoModelForMultimodalLM,) if quantized else (AutoModel, AutoModelForMultimodalLM):
        answers[auto.__name__] = type(auto.from_pretrained(FOLDER, **trust)).__name__
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, **trust)
    answers["tokenizer"] = tokenizer("Is there a road in the image?")["input_ids"]
    image_processor = AutoImageProcessor.from_pretrained(FOLDER, **trust)
    tensors["pixels"] = image_processor(pictures[0], return_tensors="pt")["pixel_values"].float()

save_file(tensors, OUT / "tensors.safetensors")
(OUT / "answers.json").write_text(json.dumps(answers))
