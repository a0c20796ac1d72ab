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
    cuda_graph: bool = option(
        False,
        "Capture the training step as a CUDA graph, and replay it for every full batch: faster with small batches. For "
        "one process on an NVIDIA GPU, in bf16 or fp32. Not yet run on a GPU.",
        earlier=False,
    )
    deterministic: bool = option(False, "Use only deterministic algorithms: bit-identical repeats, slower on GPU.")
    threads: int | None = option(
        None,
        "CPU compute threads per process. [default: all cores, shared evenly, but no more than the model keeps busy]",
        low=1,
        high=1024,
        identity=False,
    )


def compute_problems(settings: ComputeSettings) -> list[str]:
    """Why --cuda-graph true cannot be combined with other settings; those of the machine are found in preflight."""
    problems = []
    if settings.cuda_graph and settings.deterministic:
        problems.append(
            "--cuda-graph true and --deterministic true exclude each other: no GPU has shown yet that a replayed step "
            "gives the bits of an eager one. Leave one of them out."
        )
    if settings.cuda_graph and settings.precision == "fp16":
        problems.append(
            "--cuda-graph true does not work with --precision fp16, whose loss scaling waits for the GPU in each step. "
            "Use --precision bf16 or fp32, or leave --cuda-graph out."
        )
    return problems
