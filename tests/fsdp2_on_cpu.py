"""Runs `unirs` under FSDP2 on CPU processes: accelerate shards on accelerators only, PyTorch on both.

torchrun --nproc-per-node 2 tests/fsdp2_on_cpu.py train ...
"""

import os

from accelerate.state import DistributedType, PartialState

from unirs.cli import main

SETTINGS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
start = PartialState.__init__


def start_as_accelerator(self, *args, **kwargs):
    start(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = self._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    os.environ.update(SETTINGS)
    PartialState.__init__ = start_as_accelerator
    main()
