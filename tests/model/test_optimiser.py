"""The optimiser against torch's and the schedule against torch's schedulers and the formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from codechoir.errors import InputError
from codechoir.model.config import OptimiserConfig, share_of
from codechoir.model.optimiser import MasterAdamW, check_state, learning_rate, read_state

CONFIG = OptimiserConfig(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9, clip_norm=1.5)
SHAPES = {"one": (5, 3), "two": (7,)}


def parameters(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return {name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def step(optimiser: MasterAdamW, model: dict[str, nn.Parameter], number: int, rate: float = 0.01) -> float:
    for name, gradient in gradients(number).items():
        model[name].grad = gradient.to(model[name].dtype)
    norm = optimiser.step(rate)
    assert all(parameter.grad is None for parameter in model.values())
    return norm


def test_float32_is_torchs_adamw() -> None:
    ours, theirs = parameters(), parameters()
    optimiser = MasterAdamW(ours, CONFIG)
    reference = torch.optim.AdamW(theirs.values(), lr=1.0, betas=(0.8, 0.9), weight_decay=0.1, foreach=False)
    for number in range(6):
        rate = 0.01 * (number + 1)
        norm = step(optimiser, ours, number, rate)
        for name, gradient in gradients(number).items():
            theirs[name].grad = gradient
        assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(theirs.values(), 1.5)))
        assert norm > 1.5  # so that clipping is tried
        reference.param_groups[0]["lr"] = rate
        reference.step()
        for name in SHAPES:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7)


def test_float32_is_the_formula() -> None:
    """Decoupled weight decay (arXiv 1711.05101, algorithm 2), in numpy."""
    model = parameters()
    weights = {name: parameter.detach().double().numpy() for name, parameter in parameters().items()}
    first = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    second = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    optimiser = MasterAdamW(model, CONFIG)
    for number in range(4):
        step(optimiser, model, number)
        raw = {name: gradient.double().numpy() for name, gradient in gradients(number).items()}
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in raw.values()))
        for name in SHAPES:
            gradient = raw[name] * min(1.0, 1.5 / norm)
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.9 * second[name] + 0.1 * gradient**2
            mean, square = first[name] / (1 - 0.8 ** (number + 1)), second[name] / (1 - 0.9 ** (number + 1))
            weights[name] = weights[name] * (1 - 0.01 * 0.1) - 0.01 * mean / (np.sqrt(square) + 1e-8)
    for name in SHAPES:
        np.testing.assert_allclose(model[name].detach().numpy(), weights[name], rtol=1e-5)


def test_bfloat16_weights_are_the_rounded_masters() -> None:
    rough = parameters(torch.bfloat16)
    exact = {name: nn.Parameter(parameter.detach().float()) for name, parameter in rough.items()}
    optimiser, reference = MasterAdamW(rough, CONFIG), MasterAdamW(exact, CONFIG)
    for number in range(5):
        for name, gradient in gradients(number).items():
            rough[name].grad = gradient.bfloat16()
            exact[name].grad = gradient.bfloat16().float()
        optimiser.step(1e-3)
        reference.step(1e-3)
        for name in SHAPES:
            assert rough[name].dtype == torch.bfloat16
            assert torch.equal(rough[name], exact[name].bfloat16())


def test_updates_too_small_for_bfloat16_add_up() -> None:
    """Near 1 bfloat16's steps are 1/128 or so; plain bfloat16 AdamW stays where it is."""
    weight, plain = (nn.Parameter(torch.ones(1, dtype=torch.bfloat16)) for _ in range(2))
    optimiser = MasterAdamW({"weight": weight}, OptimiserConfig())
    reference = torch.optim.AdamW([plain], lr=1e-3, weight_decay=0.0)
    for _ in range(20):
        weight.grad, plain.grad = torch.ones_like(weight), torch.ones_like(plain)
        optimiser.step(1e-3)
        reference.step()
    assert float(plain.detach()) == 1.0
    assert float(weight.detach()) == pytest.approx(1 - 20 * 1e-3, abs=2**-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("own_rate", [0.0, 0.3])
def test_packed_rows_are_sums_that_torch_differentiates(dtype: torch.dtype, own_rate: float) -> None:
    """The sum written out: torch's AdamW on its two parts, by the gradients that autograd gives them."""
    ours = parameters(dtype)
    optimiser = MasterAdamW(ours, CONFIG, packed=["one"], own_rate=own_rate)
    start = ours["one"].detach().clone().float()
    common = nn.Parameter(start.mean(dim=0))
    own, two = nn.Parameter(start - common.detach()), nn.Parameter(ours["two"].detach().clone().float())
    groups = [{"params": [common, two]}, {"params": [own]}]
    reference = torch.optim.AdamW(groups, betas=(0.8, 0.9), weight_decay=0.1, foreach=False)
    for number in range(5):
        step(optimiser, ours, number)
        given = {name: gradient.to(dtype).float() for name, gradient in gradients(number).items()}
        scale = min(1.0, 1.5 / (float(torch.cat([each.flatten() for each in given.values()]).norm()) + 1e-6))
        reference.zero_grad()
        (((common + own - own.mean(dim=0)) * given["one"]).sum() + (two * given["two"]).sum()).mul(scale).backward()
        for group, rate in zip(reference.param_groups, (0.01, 0.01 * own_rate), strict=True):
            group["lr"] = rate
        reference.step()
        tolerance = 1e-6 if dtype == torch.float32 else 2**-8  # of bfloat16, rounding to the other side
        for name, expected in (("one", common + own - own.mean(dim=0)), ("two", two)):
            torch.testing.assert_close(ours[name].float(), expected, rtol=tolerance, atol=1e-6)
    moved = (common.detach() - start.mean(dim=0)).abs().max()
    assert moved > 0.01 and torch.equal(own, start - start.mean(dim=0)) == (own_rate == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [(), ("one",)])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path, dtype: torch.dtype, packed: tuple[str, ...]) -> None:
    model, file = parameters(dtype), tmp_path / "resume.safetensors"
    optimiser = MasterAdamW(model, CONFIG, packed=packed, own_rate=0.3)
    for number in range(3):
        step(optimiser, model, number)
    optimiser.save(file, {"losses": [1.5, 0.25], "seconds": 2.0})
    resumed = parameters(dtype)
    other = MasterAdamW(resumed, CONFIG, packed=packed, own_rate=0.3)
    assert other.load(file) == {"losses": [1.5, 0.25], "seconds": 2.0}
    for number in range(3, 6):
        for each, state in ((optimiser, model), (other, resumed)):
            step(each, state, number)
        assert all(torch.equal(model[name], resumed[name]) for name in SHAPES)


@pytest.mark.parametrize("read", [read_state, check_state])
def test_a_state_that_is_missing_or_damaged_is_told(tmp_path: Path, read: Any) -> None:
    file = tmp_path / "step-000000001.safetensors"
    MasterAdamW(parameters(), CONFIG).save(file, {})
    read(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="a checkpoint is damaged") as damaged:
        read(file)
    assert "remove it" in damaged.value.next_step
    file.unlink()
    with pytest.raises(InputError, match="a checkpoint is missing") as missing:
        read(file)
    assert "remove" not in missing.value.next_step


def schedule(num_steps: int, **settings: Any) -> list[float]:
    config = OptimiserConfig(**settings)
    return [learning_rate(step, num_steps, config) for step in range(num_steps)]


def torchs(make: Any, num_steps: int, peak: float) -> list[float]:
    """The rates that one of torch's schedulers gives."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler, rates = make(optimiser), []
    for _ in range(num_steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(("num_steps", "warmup", "final"), [(50, 0.1, 0.1), (37, 0.5, 0.0), (8, 0.25, 1.0)])
def test_the_schedule_is_torchs_linear_and_cosine(num_steps: int, warmup: float, final: float) -> None:
    num_warm = math.ceil(warmup * num_steps)
    rest = num_steps - num_warm
    linear = torch.optim.lr_scheduler.LinearLR
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = torchs(lambda o: linear(o, 1 / num_warm, 1.0, total_iters=num_warm - 1), num_warm, 3e-4)
    expected += torchs(lambda o: cosine(o, rest, eta_min=final * 3e-4), rest, 3e-4)
    ours = schedule(num_steps, learning_rate=3e-4, warmup=warmup, final_learning_rate=final)
    assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("num_steps", "warmup", "final"), [(50, 0.1, 0.1), (37, 0.5, 0.0), (8, 0.25, 1.0)])
def test_the_linear_schedule_is_torchs(num_steps: int, warmup: float, final: float) -> None:
    num_warm = math.ceil(warmup * num_steps)
    rest = num_steps - num_warm
    down = torch.optim.lr_scheduler.LinearLR
    expected = torchs(lambda o: down(o, 1.0, max(final, 1e-12), total_iters=rest), rest, 3e-4)
    ours = schedule(
        num_steps, learning_rate=3e-4, warmup=warmup, final_learning_rate=max(final, 1e-12), schedule="linear"
    )
    assert ours[num_warm:] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("num_steps", "warmup", "decay"), [(50, 0.1, 0.2), (40, 0.25, 0.5), (9, 0.0, 1.0)])
def test_warmup_stable_decay_is_torchs_schedulers_in_a_row(num_steps: int, warmup: float, decay: float) -> None:
    num_warm, num_down = math.ceil(warmup * num_steps), math.ceil(decay * num_steps)
    num_down = min(num_down, num_steps - num_warm)
    level, down = torch.optim.lr_scheduler.ConstantLR, torch.optim.lr_scheduler.LinearLR
    num_level = num_steps - num_warm - num_down
    expected = torchs(lambda o: level(o, 1.0, total_iters=num_steps), num_level, 3e-4)
    expected += torchs(lambda o: down(o, 1.0, 0.1, total_iters=num_down), num_down, 3e-4)
    ours = schedule(num_steps, learning_rate=3e-4, warmup=warmup, decay=decay, schedule="warmup-stable-decay")
    assert ours[num_warm:] == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 10**6), st.integers(0, 1000))
def test_a_share_of_steps_is_that_of_the_number_as_written(num_steps: int, thousandths: int) -> None:
    assert share_of(thousandths / 1000, num_steps) == -(-thousandths * num_steps // 1000)


@pytest.mark.parametrize(("num_steps", "share"), [(100, 0.07), (25, 0.28), (50, 0.14)])  # 7 steps, by floats 8
def test_no_step_is_added_by_rounding(num_steps: int, share: float) -> None:
    rising = schedule(num_steps, learning_rate=1.0, warmup=share)
    assert rising[:7] == pytest.approx([(step + 1) / 7 for step in range(7)])
    falling = schedule(num_steps, learning_rate=1.0, warmup=0, decay=share, schedule="warmup-stable-decay")
    assert falling.index(1.0) == 0 and falling.count(1.0) == num_steps - 6  # the first of the seven is at the peak


@given(st.integers(1, 200), st.floats(0, 0.99), st.floats(0, 1))
def test_the_schedule_rises_then_falls(num_steps: int, warmup: float, final: float) -> None:
    rates = schedule(num_steps, learning_rate=1.0, warmup=warmup, final_learning_rate=final)
    num_warm = share_of(warmup, num_steps)
    assert rates[:num_warm] == pytest.approx([(number + 1) / num_warm for number in range(num_warm)])
    assert rates[num_warm:] == sorted(rates[num_warm:], reverse=True)
    assert all(final - 1e-9 <= rate <= 1 for rate in rates[num_warm:])
    assert max(rates) == pytest.approx(1.0)
