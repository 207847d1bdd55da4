"""The denoiser's network: shapes, gradients, keeping, and what half precision costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from limner.painter.denoiser import HEAD_DIM, PATCH, REFERENCE_TOKENS, STYLES, TEXT_DIM, TEXT_TOKENS, rotary
from limner.painter.training.network import Config, Network, attention, patchify

CONFIG = Config(depth=2, styles=len(STYLES))
INPUTS = ("x", "t", "draft", "text", "reference", "strength", "style", "cos", "sin")


def inputs(batch: int = 2, rows: int = 3, cols: int = 5, references: int = 1, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    cos, sin = (torch.from_numpy(table) for table in rotary(rows, cols, references))
    return {
        "x": normal(batch, 3, rows * PATCH, cols * PATCH),
        "t": torch.rand(batch, generator=g),
        "draft": normal(batch, 4, rows * PATCH, cols * PATCH),
        "text": normal(batch, TEXT_TOKENS, TEXT_DIM),
        "reference": normal(batch, references * REFERENCE_TOKENS, 4 * PATCH * PATCH),
        "strength": torch.rand(batch, generator=g),
        "style": torch.eye(len(STYLES))[:batch],
        "cos": cos,
        "sin": sin,
    }


def stepped(steps: int = 4) -> Network:
    """A network that has left its zeros: each step lets the gradient one layer of zeros further."""
    torch.manual_seed(0)
    network = Network(CONFIG)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    given = inputs()
    target = torch.randn(given["x"].shape, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        (network(**given) - target).square().mean().backward()
        optimizer.step()
    return network


@pytest.mark.parametrize(("rows", "cols", "references"), [(3, 5, 0), (5, 3, 1), (8, 8, 2)])
def test_it_gives_a_picture_of_the_inputs_size(rows: int, cols: int, references: int) -> None:
    y = stepped(1)(**inputs(2, rows, cols, references))
    assert y.shape == (2, 3, rows * PATCH, cols * PATCH)
    assert y.dtype == torch.float32
    assert torch.isfinite(y).all()


def test_untrained_it_returns_what_is_visible_of_the_draft() -> None:
    given = inputs()
    torch.testing.assert_close(Network(CONFIG)(**given), given["draft"][:, :3], rtol=0, atol=0)


def test_every_parameter_gets_a_gradient_once_the_zeros_are_left() -> None:
    network = stepped()
    network.zero_grad()
    network(**inputs(seed=5)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@pytest.mark.parametrize("name", [name for name in INPUTS if name not in ("cos", "sin")])
def test_every_input_has_an_effect(name: str) -> None:
    network, given = stepped(), inputs()
    changed = given | {name: inputs(seed=9)[name].flip(0)}
    with torch.no_grad():
        difference = (network(**given) - network(**changed)).abs().mean()
    assert difference > 1e-4


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    network, given = stepped(), inputs(2)
    alone = {name: value if name in ("cos", "sin") else value[:1] for name, value in given.items()}
    with torch.no_grad():
        torch.testing.assert_close(network(**given)[:1], network(**alone), rtol=1e-4, atol=1e-5)


def test_kept_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    network, given = stepped(), inputs()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = Network(Config(**CONFIG.as_dict()))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(network(**given), other(**given))


def test_weights_of_another_depth_are_refused() -> None:
    with pytest.raises(RuntimeError, match="Unexpected key"):
        Network(CONFIG).load_state_dict(Network(Config(depth=3)).state_dict())


def test_bfloat16_is_near_float32() -> None:
    network, given = stepped(), inputs()
    with torch.no_grad():
        exact = network(**given) - given["draft"][:, :3]
        with torch.autocast("cpu", torch.bfloat16):
            short = network(**given) - given["draft"][:, :3]
    assert (short - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_the_dial_sets_every_width() -> None:
    sizes = {depth: sum(p.numel() for p in Network(Config(depth=depth)).parameters()) for depth in (2, 4, 6)}
    assert sizes[2] < sizes[4] < sizes[6]
    for depth in (2, 4, 6, 8):
        config = Config(depth=depth)
        assert config.width == config.heads * HEAD_DIM
        assert config.hidden % 32 == 0
        assert config.hidden >= config.width * 8 / 3


def test_a_gpus_attention_is_the_written_out_one() -> None:
    q, k, v = torch.randn(3, 2, 4, 21, HEAD_DIM, generator=torch.Generator().manual_seed(0)).unbind(0)
    torch.testing.assert_close(attention(q, k, v), functional.scaled_dot_product_attention(q, k, v))


def test_pictures_may_each_have_places_of_their_own() -> None:
    network, given = stepped(), inputs()
    own = given | {name: given[name].expand(2, 1, -1, -1) for name in ("cos", "sin")}
    with torch.no_grad():
        torch.testing.assert_close(network(**own), network(**given))
        own["cos"] = own["cos"].clone()
        own["cos"][1] += 0.5
        moved = network(**own)
    torch.testing.assert_close(moved[0], network(**given)[0])
    assert (moved[1] - network(**given)[1]).abs().mean() > 1e-4


@pytest.mark.parametrize("references", [0, 1])
def test_operations_are_counted_as_they_are_done(references: int) -> None:
    """Against torch's own count, which leaves the modulation's matrices in: they are done once for a picture."""
    network, given = Network(CONFIG), inputs(3, 4, 6, references)
    with FlopCounterMode(display=False) as counter:
        network(**given)
    assert counter.get_total_flops() / 3 == pytest.approx(CONFIG.operations(24, references), rel=0.02)


def test_patches_are_rows_first() -> None:
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    patches = patchify(x, 2)
    assert patches.shape == (2, 6, 12)
    assert torch.equal(patches[1, 4].reshape(3, 2, 2), x[1, :, 2:4, 2:4])
