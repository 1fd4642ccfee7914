"""The base model inside a model with adapters, as a second model on the same weights."""

import copy
from typing import TypeVar

from torch import nn

# What a module keeps that is bound to itself, so to its adapters: its compiled forward, and `generate`'s.
BOUND = ("forward", "_compiled_call", "_last_compile_config")
# Ways to start an adapter that take from the base's own weights what they put into it.
TAKING = ("pissa", "olora", "corda", "loftq", "lora_ga")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
Network = TypeVar("Network", bound=nn.Module)


def without_adapters(network: Network) -> Network:
    """The same network with every adapter of PEFT left out: other module objects, the very same parameters.

    Costs some milliseconds and no memory. The network itself is not touched, so there is no state to restore, and
    other threads may use it with its adapters meanwhile. A network without adapters comes back as it is.

    Raises:
        ValueError: An adapter is merged into the base's weights or has changed them, or accelerate has spread the
            network over devices.
    """
    for config in getattr(network, "peft_config", {}).values():
        start, bias = str(getattr(config, "init_lora_weights", "")), getattr(config, "bias", "none")
        if start.lower().startswith(TAKING) or bias != "none":
            raise ValueError(
                f"the adapter has changed the base's own weights (init_lora_weights={start}, bias={bias}); give a "
                "second model as the base"
            )
    return _twin(network) if any(map(_is_adapted, network.modules())) else network  # type: ignore[return-value]


def _is_adapted(module: nn.Module) -> bool:
    """By what PEFT's kinds of layers have in common: this file is published and must not import PEFT."""
    return hasattr(module, "enable_adapters") and _inner(module) is not None


def _inner(module: nn.Module) -> nn.Module | None:
    """What an adapter is laid around: `base_layer` of LoRA and its kin, `original_module` of modules_to_save."""
    return module._modules.get("base_layer") or module._modules.get("original_module")


def _twin(module: nn.Module) -> nn.Module:
    if _is_adapted(module):
        if getattr(module, "merged", False):
            raise ValueError("an adapter is merged into the weights; unmerge it, or give a second model as the base")
        return _twin(_inner(module))  # type: ignore[arg-type]
    if "_hf_hook" in vars(module):  # its forward is bound to the module with adapters
        raise ValueError("accelerate has spread the model over devices; give a second model as the base")
    twin = copy.copy(module)
    twin._modules = {name: part and _twin(part) for name, part in module._modules.items()}
    for name in HOOKS:  # one that is set on either later must not act on both
        vars(twin)[name] = copy.copy(vars(module)[name])
    for name in BOUND:
        vars(twin).pop(name, None)
    return twin


__all__ = ["without_adapters"]
