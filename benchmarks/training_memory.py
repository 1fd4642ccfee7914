"""Memory of training by method, computed from the shapes of the 3B model: the table of docs/training.md.

    python benchmarks/training_memory.py

Weights, gradients and AdamW's two moments are exact; activations are for one sample a device, with checkpointing.
"""

from peft import get_peft_model
from torch import device
from unirs.modeling_unirs import UniRSConfig, UniRSForConditionalGeneration
from unirs.trainers.adapters import Adapter

TOKENS = 1700  # a clip of eight frames with its words, the longest sample of the mixture
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # four bits, a scale in 8 bits for 64 weights, and one for 256 of those


def main() -> None:
    with device("meta"):
        model = UniRSForConditionalGeneration(UniRSConfig())
    text = model.config.text_config
    language = sum(p.numel() for p in model.model.language_model.parameters()) + model.lm_head.weight.numel()
    frozen = sum(p.numel() for p in model.parameters()) - language
    linear = sum(
        p.numel() for name, p in model.model.language_model.named_parameters() if p.ndim == 2 and "embed" not in name
    )
    config = Adapter("lora", 16, 32, 0.0, None).peft_config(model)
    adapter = sum(p.numel() for p in get_peft_model(model, config).parameters() if p.requires_grad)

    # Kept for each layer: its input. Computed again, one layer at a time: attention's four and the MLP's three parts.
    kept = TOKENS * text.hidden_size * text.num_hidden_layers * 2
    again = TOKENS * (6 * text.hidden_size + 4 * text.intermediate_size) * 2
    activations = kept + again
    adam = 4 + 4 + 8  # float32: weight, gradient, two moments
    rows = {
        "full, float32 weights (`joint_tuning`)": language * adam + frozen * 4,
        "full, float32 weights, FSDP2 or ZeRO-3 on 8": (language * adam + frozen * 4) / 8,
        "full, bfloat16 weights and moments (`dtype: bfloat16`)": language * adam / 2 + frozen * 2,
        "LoRA r=16 (`lora`)": (language + frozen) * 2 + adapter * adam,
        "QLoRA r=16 (`qlora`)": linear * NF4_BYTES + (language - linear + frozen) * 2 + adapter * adam,
    }
    print(f"<!-- {language:,} weights of the language model, {frozen:,} frozen, {adapter:,} of the adapter -->")
    print("| method | weights, gradients, optimiser | with activations of one clip |\n|---|---|---|")
    for name, size in rows.items():
        print(f"| {name} | {size / 1e9:.1f} GB | {(size + activations) / 1e9:.1f} GB |")


if __name__ == "__main__":
    main()
