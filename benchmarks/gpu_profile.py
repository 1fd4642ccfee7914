"""What a GPU does in a stretch of work, and how long it waits, by PyTorch's profiler."""

import time
from contextlib import contextmanager

import torch

LARGEST = 12  # kernels shown


@contextmanager
def profiled(found: dict):
    """Fills `found` with the seconds of the body, of which the device was busy, and its largest kernels.

    Nothing is found without a GPU.
    """
    if not torch.cuda.is_available():
        yield
        return
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    started = time.perf_counter()
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        yield
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    on_device = [one for one in profile.key_averages() if one.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [one for one in on_device if not one.is_user_annotation]  # a step's name lies beside its kernels
    largest = sorted(kernels, key=lambda one: -one.self_device_time_total)[:LARGEST]
    found |= {
        "profiled_seconds": round(seconds, 4),  # the profiler's own work among them
        "device_busy_s": round(sum(one.self_device_time_total for one in kernels) / 1e6, 4),
        "kernels": sum(one.count for one in kernels),
        # name, milliseconds, how often
        "largest": [[one.key[:120], round(one.self_device_time_total / 1e3, 3), one.count] for one in largest],
    }
