"""Teaches UniRS your own before/after pairs with TRL's stock SFTTrainer and a LoRA adapter.

    pip install '.[train]'
    python examples/finetune_own_data.py FOLDER --output runs/finetuned

FOLDER/pairs.json: [{"a": "before.png", "b": "after.png", "captions": ["two houses are built", ...]}, ...]
On 72 captions of real LEVIR-CC pairs 20 steps take 11 s on two cores, and the loss falls from 7.6 to 5.8.
"""

import argparse
import json
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer

import unirs

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--model", default=unirs.default_checkpoint())
parser.add_argument("--output", default="runs/finetuned")
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()

# -- Model
model = AutoModelForImageTextToText.from_pretrained(args.model)
processor = AutoProcessor.from_pretrained(args.model)
adapter = LoraConfig(r=16, lora_alpha=32, target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj")

# -- Data: two images in a row are a pair, one is a single image; a clip is a video item in the messages
question = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What has changed?"}]
rows = [
    {
        "images": [str(args.folder / pair["a"]), str(args.folder / pair["b"])],
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": [{"type": "text", "text": caption}]},
        ],
    }
    for pair in json.loads((args.folder / "pairs.json").read_text())
    for caption in pair.get("captions", [])
]

# -- Training
config = SFTConfig(
    args.output, max_steps=args.steps, per_device_train_batch_size=8, learning_rate=1e-3, assistant_only_loss=True,
    max_length=None, logging_steps=5, report_to="none",
    bf16=torch.cuda.is_available(),  # TRL's default is True, and stops without a GPU
)  # fmt: skip
trainer = SFTTrainer(
    model, config, train_dataset=Dataset.from_list(rows), processing_class=processor, peft_config=adapter
)
trainer.train()
trainer.save_model()  # the adapter and the processor: `unirs change BEFORE AFTER --model runs/finetuned`
