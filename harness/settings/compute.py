"""Settings of how a run computes: precision, memory, threads."""

import dataclasses

from harness.settings.option import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """Settings under the heading Compute."""

    precision: str = option(
        "auto",
        "auto: fp32 on CPU; on GPU Accelerate's setting, else bf16 if supported, else fp16.",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    micro_batch: int | None = option(
        None,
        "Images per forward pass and process; gradients accumulate to the global batch. [default: all images]",
        low=1,
        high=1_000_000,
        identity=False,
    )
    grad_checkpointing: bool = option(
        False, "Recompute activations in the backward pass: less memory, about a third slower."
    )
    compile: bool | str = option(
        False,
        "Compile the blocks of the model with torch.compile. auto: on a GPU, in runs of at least 12,000 steps. "
        "Not yet tried on a GPU.",
        choices=("auto",),
    )
    deterministic: bool = option(False, "Use only deterministic algorithms: bit-identical repeats, slower on GPU.")
    threads: int | None = option(
        None, "CPU compute threads per process. [default: all cores, shared evenly]", low=1, high=1024, identity=False
    )
