"""Steps on static tensors, repeated as a CUDA graph repeats them: the bits of eager steps, and when one is captured."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.errors import ConfigError, HarnessError
from harness.model.drop_path import add_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.model.lora import add_lora
from harness.model.packed_attention import pack_attention
from harness.train import fit
from harness.training import preflight, static_step
from harness.training.checkpoint import save_tensors
from harness.training.distributed import Processes
from harness.training.loss import Loss
from harness.training.optim import learning_rate
from harness.training.state import TrainState
from harness.training.static_step import WARM_UP_STEPS, StaticStep
from harness.training.step import training_step
from tests.helpers.timm_vits import small_timm
from tests.helpers.tiny_vits import tiny_vit
from tests.test_train import losses_of, same_bits, settings, weights_of
from tests.training.recorded import recorded

SIZE = 4  # of a full batch
STEPS_PER_EPOCH = 7  # the last one has 2 images
CONFIG = RunConfig(
    data="images",
    model="vit_demo",
    weights="none",
    threads=1,
    batch_size=SIZE,
    lr=1e-3,
    epochs=3,
    warmup_epochs=1,
    schedule="cosine",
    layer_decay=0.5,
    clip_grad=1.0,
    ema=True,
)


def batch_of(step: int, size: int, branches: int) -> Batch:
    """Images, mixed targets, dropped branches and the mass of weighted classes: all differ from step to step."""
    generator = torch.Generator().manual_seed(step)
    count = 2 if step % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1 else SIZE
    return Batch(
        images=torch.randn(count, 3, size, size, generator=generator),
        targets=torch.rand(count, 5, generator=generator).softmax(1),
        samples=np.arange(count),
        weight=torch.ones(count),
        total=count,
        drop_path_scale=torch.rand(count, branches, generator=generator).round() * 2 if branches else None,
        mass=float(count) + torch.rand((), generator=generator).item(),
    )


class Training:
    """Steps of a small model, in one process on a CPU."""

    def __init__(self, config: RunConfig, make: Callable[[], nn.Module], micro_batch: int = 3) -> None:
        self.config, self.processes = config, Processes(config)
        model = make()
        self.branches = sum(type(module).__name__ == "DropPath" for module in model.modules())
        loss = Loss(torch.tensor([0.5, 1.0, 2.0, 1.0, 1.0]))
        self.state = TrainState(model, config, self.processes.accelerator, loss)
        self.state.progress.micro_batch = micro_batch
        self.state.train()

    def steps(self, count: int) -> list[float]:
        """Losses of the next steps."""
        losses, progress = [], self.state.progress
        for _ in range(count):
            # A captured step reads it as float32.
            lr = float(np.float32(learning_rate(progress.step, self.config, STEPS_PER_EPOCH)))
            batch = batch_of(progress.step, 32, self.branches)
            losses.append(training_step(self.state, batch, lr, self.config, self.processes))
        return [loss.item() for loss in losses]

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.state.tensors().items()}


Start = Callable[..., Training]


@pytest.fixture
def start() -> Iterator[Start]:
    """A training; its processes are closed when the test has ended."""
    trainings: list[Training] = []

    def begin(make: Callable[[], nn.Module] | None = None, micro_batch: int = 3, **changes: Any) -> Training:
        trainings.append(Training(dataclasses.replace(CONFIG, **changes), make or plain_vit, micro_batch))
        return trainings[-1]

    yield begin
    for training in trainings:
        training.processes.close()


def plain_vit() -> nn.Module:
    model = tiny_vit(layers=2)
    pack_attention(model)
    return model


def with_drop_path() -> nn.Module:
    model = plain_vit()
    add_drop_path(model)
    return model


def recomputed() -> nn.Module:
    model = with_drop_path()
    enable_grad_checkpointing(model)
    return model


def with_lora() -> nn.Module:
    model = plain_vit()
    add_lora(model, 2, 4.0, "all", 0)
    return model


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "AdamW": (with_drop_path, {}),
    "SGD": (with_drop_path, {"optimizer": "sgd", "lr": 0.1}),
    "bf16": (with_drop_path, {"precision": "bf16"}),
    "one micro-batch": (plain_vit, {"clip_grad": 0.0, "ema": False}),
    "recomputed": (recomputed, {}),
    "LoRA": (with_lora, {"lora_rank": 2}),
    "timm": (lambda: small_timm("vit_tiny_patch16_224", 32), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_replayed_steps_give_the_bits_of_eager_ones(name: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps: three warm up, three are replayed, one has a batch that is not full, three are replayed."""
    make, changes = CASES[name]
    micro_batch = SIZE if name == "one micro-batch" else 3
    eager = start(make, micro_batch, **changes)
    for group in eager.state.optimizer.param_groups:
        group["fused"] = True  # as in captured steps: SGD is not by default, and rounds in another way
    expected = eager.steps(10), eager.tensors()
    replays = []

    def counted(step: static_step.Step, stream: Any) -> static_step.Step:
        replay = recorded(step, stream)
        return lambda: replays.append(1) or replay()  # type: ignore[func-returns-value]

    monkeypatch.setattr(static_step, "captured", counted)
    static = start(make, micro_batch, cuda_graph=True, **changes)
    losses = static.steps(10)
    assert len(replays) == 6
    assert losses == expected[0]
    assert different(static.tensors(), expected[1]) == []


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_a_state_is_resumed_with_and_without_captured_steps(
    cuda_graph: bool, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved after five steps of an epoch of seven, and resumed with the other setting."""
    monkeypatch.setattr(static_step, "captured", recorded)
    whole = start(with_drop_path)
    expected = whole.steps(12)[5:], whole.tensors()
    first = start(with_drop_path, cuda_graph=cuda_graph)
    first.steps(5)
    save_tensors(tmp_path / "state", first.tensors(), first.state.metadata({}))
    resumed = start(with_drop_path, cuda_graph=not cuda_graph)
    resumed.steps(1)
    resumed.state.restore(tmp_path / "state", {})
    rates = [group["lr"] for group in resumed.state.optimizer.param_groups]
    assert {isinstance(rate, Tensor) for rate in rates} == {not cuda_graph}
    assert len({id(rate) for rate in rates}) == len(rates)
    assert resumed.steps(7) == expected[0]
    assert different(resumed.tensors(), expected[1]) == []


def test_a_whole_run_with_captured_steps_resumes_with_the_same_bits(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 21 images in batches of 5, the last has one; steps 4, 6, 7, 8 and 9 are replayed."""
    monkeypatch.setattr(static_step, "captured", recorded)
    monkeypatch.setattr(preflight, "check_cuda_graph", lambda _: None)  # this is a CPU
    changes = {"cuda_graph": True, "ema": True, "mixup": 0.4, "drop_path": 0.2, "clip_grad": 1.0}
    config = settings(data_folder, tmp_path / "stopped", **changes)

    def stop_after_seven(state: TrainState, *rest: Any) -> Tensor:
        loss = training_step(state, *rest)
        if state.progress.step == 7:
            raise KeyboardInterrupt
        return loss

    whole = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "whole")))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("harness.train.training_step", stop_after_seven)
        fit(dataclasses.replace(config, checkpoint_every=6))
    resumed = fit(dataclasses.replace(config, checkpoint_every=6))
    assert losses_of(resumed) == losses_of(whole)
    assert same_bits(weights_of(resumed), weights_of(whole))
    eager = fit(dataclasses.replace(config, runs_dir=str(tmp_path / "eager"), cuda_graph=False))
    assert losses_of(whole) == pytest.approx(losses_of(eager), rel=1e-5)


class Captures:
    """In place of `static_step.captured`: notes the micro-batch of each capture and fails as often as asked."""

    def __init__(self, training: Training, *failures: Exception) -> None:
        self.training, self.failures = training, list(failures)
        self.micro_batches: list[int] = []
        self.replays = 0

    def __call__(self, step: static_step.Step, stream: Any) -> static_step.Step:
        self.micro_batches.append(self.training.state.progress.micro_batch)
        if self.failures:
            raise self.failures.pop(0)

        def replay() -> Tensor:
            self.replays += 1
            return step()

        return replay


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")


def ended_capture() -> RuntimeError:
    """How torch reports a capture whose step lacked memory."""
    error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    error.__context__ = OUT_OF_MEMORY
    return error


@pytest.mark.parametrize("failure", [OUT_OF_MEMORY, ended_capture()], ids=["as it is", "hidden by the capture"])
def test_out_of_memory_in_a_capture_halves_the_micro_batch_and_tries_again(
    failure: Exception, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "harness")
    training = start(micro_batch=SIZE, cuda_graph=True)
    captures = Captures(training, failure)
    monkeypatch.setattr(static_step, "captured", captures)
    losses = training.steps(WARM_UP_STEPS + 1)
    assert (captures.micro_batches, captures.replays) == ([SIZE], 0)
    assert caplog.messages == ["Out of memory: micro-batch 4 -> 2; the global batch stays 4."]
    losses += training.steps(2 * WARM_UP_STEPS)
    assert (captures.micro_batches, captures.replays) == ([SIZE, SIZE // 2], 2)

    eager = start(micro_batch=SIZE)
    expected = eager.steps(WARM_UP_STEPS)
    eager.state.progress.micro_batch = SIZE // 2
    assert losses == expected + eager.steps(2 * WARM_UP_STEPS + 1)
    assert different(training.tensors(), eager.tensors()) == []


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OUT_OF_MEMORY, "CUDA out of memory. Tried to allocate 1 GiB"),
        (
            RuntimeError("operation not permitted when capturing\n..."),
            "operation not permitted",
        ),
    ],
)
def test_a_step_that_cannot_be_captured_stays_eager_and_one_sentence_says_so(
    failure: Exception,
    reason: str,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "harness")
    training = start(micro_batch=1, cuda_graph=True)
    captures = Captures(training, failure)
    monkeypatch.setattr(static_step, "captured", captures)
    losses = training.steps(8)
    assert captures.micro_batches == [1]
    [sentence] = caplog.messages
    assert sentence.startswith(f"The step cannot be captured as a CUDA graph ({reason}")
    assert sentence.endswith("Training continues without it.")
    assert losses == start(micro_batch=1).steps(8)


def test_another_micro_batch_is_captured_again_and_a_batch_that_is_not_full_is_not(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = start(micro_batch=SIZE, cuda_graph=True)
    captures = Captures(training)
    monkeypatch.setattr(static_step, "captured", captures)
    training.steps(STEPS_PER_EPOCH)
    assert (captures.micro_batches, captures.replays) == ([SIZE], STEPS_PER_EPOCH - 1 - WARM_UP_STEPS)
    training.steps(1)
    assert (captures.micro_batches, captures.replays) == ([SIZE], STEPS_PER_EPOCH - WARM_UP_STEPS)
    training.state.progress.micro_batch = 1
    training.steps(WARM_UP_STEPS)
    assert captures.micro_batches == [SIZE]
    training.steps(1)
    assert captures.micro_batches == [SIZE, 1]


def test_out_of_memory_beside_a_graph_frees_the_graph(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the epoch's last batch: that step is repeated with the same micro-batch, and a later one is captured again."""
    training = start(micro_batch=SIZE, cuda_graph=True)
    captures = Captures(training)
    monkeypatch.setattr(static_step, "captured", captures)
    training.steps(STEPS_PER_EPOCH - 1)
    static, forward = training.state.static_step, training.state.wrapped.forward
    assert static
    freed = []

    def short_of_memory(images: Tensor) -> Tensor:
        training.state.wrapped.forward = forward
        freed.append(static.is_captured)
        raise OUT_OF_MEMORY

    training.state.wrapped.forward = short_of_memory
    training.steps(1)
    assert (freed, static.is_captured) == ([True], False)
    training.steps(WARM_UP_STEPS + 1)
    assert captures.micro_batches == [SIZE, SIZE]


def test_what_a_graph_would_not_notice_is_refused() -> None:
    """The imitation of a graph finds what a capture forbids."""
    numbers = torch.ones(3)
    with pytest.raises(RuntimeError, match="reads the value"):
        recorded(lambda: numbers * numbers.sum().item(), None)
    with pytest.raises(RuntimeError, match="numbers of the host"):
        recorded(lambda: numbers * torch.tensor([1.0, 2.0, 3.0]), None)
    with pytest.raises(RuntimeError, match="draws random numbers"):
        recorded(lambda: numbers + torch.rand(3), None)
    replay = recorded(lambda: numbers * 2, None)
    assert replay().tolist() == [2, 2, 2]
    numbers.fill_(3)
    assert replay().tolist() == [6, 6, 6]


def test_warm_up_and_capture_share_a_stream_and_a_replay_returns_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls to CUDA, which is imitated: no GPU has run them."""
    events: list[str] = []
    signature = inspect.signature(torch.cuda.graph)

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits for {other.name}")

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        events.append(f"on {stream.name}:")
        yield

    @contextlib.contextmanager
    def graph(*args: Any, **options: Any) -> Iterator[None]:
        arguments = signature.bind(*args, **options).arguments
        events.append(f"capture on {arguments['stream'].name}, {arguments['capture_error_mode']}:")
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Mock(replay=lambda: events.append("replay")))
    loss = Mock(spec=Tensor)

    def step() -> Tensor:
        events.append("step")
        return loss

    static = StaticStep(SIZE, torch.device("cuda:0"))
    assert static.warm_up(step) is loss
    assert static.capture(step) is None
    assert static.replay() is loss.clone.return_value
    around = ["cuda:0 waits for main", "on cuda:0:", "step", "main waits for cuda:0"]
    assert events == [*around, "capture on cuda:0, thread_local:", "step", "replay"]
    assert loss.record_stream.call_args.args[0].name == "main"


def test_the_memory_of_a_graph_is_free_after_training(start: Start, tmp_path: Path) -> None:
    training = start(cuda_graph=True)
    assert isinstance(training.state.static_step, StaticStep)
    save_tensors(tmp_path / "best", training.state.model.state_dict(), {})
    training.state.use(tmp_path / "best")
    assert training.state.static_step is None


def test_what_excludes_a_graph_is_reported_with_all_other_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": str(tmp_path / "nowhere"), "model": "vit_demo", "weights": "none", "runs_dir": str(tmp_path)}
    with pytest.raises(HarnessError) as error:
        fit(RunConfig(**settings, cuda_graph=True))
    no_gpu = "--cuda-graph true needs an NVIDIA GPU, and this run uses the CPU. Leave --cuda-graph out."
    assert len(error.value.problems) == 2
    assert no_gpu in error.value.problems
    with pytest.raises(ConfigError) as error:
        RunConfig(**settings, cuda_graph=True, deterministic=True, precision="fp16")
    assert [problem[:51] for problem in error.value.problems] == [
        "--cuda-graph true and --deterministic true exclude ",
        "--cuda-graph true does not work with --precision fp",
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(ConfigError) as error:
        static_step.check_cuda_graph(RunConfig(**settings, cuda_graph=True))
    assert "does not work in fp16, which --precision auto chooses on this machine" in error.value.problems[0]
    assert "works in one process, and this run has 2" in error.value.problems[1]
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "1")
    static_step.check_cuda_graph(RunConfig(**settings, cuda_graph=True, precision="bf16"))


def test_runs_without_a_graph_keep_their_identity() -> None:
    assert "cuda_graph" not in CONFIG.identity_settings
    assert dataclasses.replace(CONFIG, cuda_graph=True).identity != CONFIG.identity
