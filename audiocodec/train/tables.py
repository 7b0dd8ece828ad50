"""Fits the entropy coder's tables to a model's codes: a small network whose weights are integers from the start.

docs/FORMAT.md has the network as the coder runs it. Here it is the same in floating point: a weight w is w / 64,
and rounding lets gradients pass, so what is trained is what is written.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from audiocodec.errors import ModelError
from audiocodec.model.codec import CodecModel
from audiocodec.train.data import Clips
from audiocodec.train.levels import draw_runs

UNIT = 64  # of weights and activations: the coder's integers are multiples of 1 / 64
LIMIT = 127
EMBEDDING_DIM = 64
HIDDEN_DIM = 96
PAST_FRAMES, FUTURE_FRAMES = 4, 3
GROUP_FRAMES = 150
BATCH_GROUPS = 8
LEARNING_RATE = 2e-3
WARMUP_STEPS = 50
VARIABLE_SHARE = 0.25  # of the items have variable bitrate
ENCODED_SECONDS = 60

Arrays = dict[str, NDArray[Any]]  # int8 weights, int32 biases, by name
Progress = Callable[[int, float], None]  # is told steps done, and bits per code


def rounded(x: Tensor) -> Tensor:
    """x, to the nearest multiple of 1 / 64 that an int8 holds; gradients pass as if it were x."""
    return x + ((x * UNIT).round().clamp(-LIMIT, LIMIT) / UNIT - x).detach()


def activation(x: Tensor) -> Tensor:
    """x, down to a multiple of 1 / 64, from 0 to 127 / 64; gradients pass between the limits."""
    x = x.clamp(0, LIMIT / UNIT)
    return x + ((x * UNIT).floor() / UNIT - x).detach()


class TableNetwork(nn.Module):
    """Probabilities of each level's codes, from the levels below at the frames around; of level 0 from its own past.

    codebooks: per level [K, D_model]; their first principal directions are what embeddings start from.
    """

    def __init__(self, codebooks: Sequence[Tensor]) -> None:
        super().__init__()
        dim, hidden = EMBEDDING_DIM, HIDDEN_DIM
        self.embeddings = nn.ParameterList([nn.Parameter(_start(book, dim)) for book in codebooks])
        taps = [PAST_FRAMES] + [PAST_FRAMES + 1 + FUTURE_FRAMES] * (len(codebooks) - 1)
        contexts = nn.ModuleList([nn.Conv1d(dim, hidden, n) for n in taps])
        hiddens = nn.ModuleList([nn.Linear(hidden, hidden) for _ in codebooks])
        outputs = nn.ModuleList([nn.Linear(hidden, len(book)) for book in codebooks])
        self.contexts, self.hiddens = cast(list[nn.Conv1d], contexts), cast(list[nn.Linear], hiddens)
        self.outputs = cast(list[nn.Linear], outputs)
        for output in self.outputs:
            nn.init.normal_(output.weight, std=0.02)

    def forward(self, codes: Tensor, present: Tensor) -> list[Tensor]:
        """codes [B, n_q, F], present [B, n_q, F] (booleans: which of them are there) -> per level bits [B, F]."""
        known, bits = torch.zeros(()), []
        for level, weights in enumerate(self.embeddings):
            entries = F.embedding(codes[:, level], rounded(weights)) * present[:, level, :, None]
            if level == 0:
                context = F.pad(entries.transpose(1, 2), (PAST_FRAMES, 0))[..., :-1]
            else:
                context = F.pad(known.transpose(1, 2), (PAST_FRAMES, FUTURE_FRAMES))
            logits = self.logits(level, context.clamp(-LIMIT / UNIT, LIMIT / UNIT))
            nats = F.cross_entropy(logits.transpose(1, 2) * math.log(2), codes[:, level], reduction="none")
            bits.append(nats / math.log(2) * present[:, level])
            known = known + entries
        return bits

    def logits(self, level: int, context: Tensor) -> Tensor:
        """Context [B, D, F + taps - 1] of one level -> logarithms of weights, base 2 [B, F, K]."""
        convolution, linear, output = self.contexts[level], self.hiddens[level], self.outputs[level]
        x = activation(F.conv1d(context, rounded(convolution.weight), convolution.bias)).transpose(1, 2)
        x = activation(x + activation_of(linear, x))
        return F.linear(x, rounded(output.weight), output.bias)

    @torch.no_grad()
    def arrays(self) -> Arrays:
        """The integers, named as docs/FORMAT.md has them."""
        found: Arrays = {
            "past": np.array(PAST_FRAMES, np.int32),
            "future": np.array(FUTURE_FRAMES, np.int32),
        }
        for level, weights in enumerate(self.embeddings):
            found[f"embedding_{level}"] = _int8(weights)
            found[f"context_{level}"] = _int8(self.contexts[level].weight.transpose(1, 2))
            found[f"hidden_{level}"] = _int8(self.hiddens[level].weight)
            found[f"output_{level}"] = _int8(self.outputs[level].weight)
            found[f"context_bias_{level}"] = _bias(self.contexts[level].bias)
            found[f"hidden_bias_{level}"] = _bias(self.hiddens[level].bias)
            found[f"output_bias_{level}"] = _bias(self.outputs[level].bias)
        return found


def activation_of(linear: nn.Linear, x: Tensor) -> Tensor:
    """A layer with rounded weights, and `activation`, whose upper limit the sum that it enters has anyway."""
    y = F.linear(x, rounded(linear.weight), linear.bias).clamp(min=0)
    return y + ((y * UNIT).floor() / UNIT - y).detach()


def _start(codebook: Tensor, dim: int) -> Tensor:
    """A codebook [K, D] as embeddings [K, dim]: itself where the sizes agree, else its main directions."""
    book = codebook.detach().float()
    if book.shape[1] > dim:
        _, _, directions = torch.linalg.svd(book - book.mean(0), full_matrices=False)
        book = book @ directions[:dim].T
    return F.pad(book, (0, dim - book.shape[1]))


def _int8(weights: Tensor) -> NDArray[np.int8]:
    return (weights * UNIT).round().clamp(-LIMIT, LIMIT).to(torch.int8).contiguous().cpu().numpy()


def _bias(bias: Tensor | None) -> NDArray[np.int32]:
    assert bias is not None, "all layers were made with one"
    return (bias * UNIT**2).round().to(torch.int32).cpu().numpy()


@torch.inference_mode()
def groups_of_codes(model: CodecModel, clips: Clips, group_frames: int = GROUP_FRAMES) -> Tensor:
    """Codes of all clips, cut into whole groups: int16 [N, n_q, group_frames]. Raises ModelError if there are none."""
    config, groups = model.config, []
    if set(config.quantizer.frames_per_code) != {1}:
        raise ModelError("entropy tables need a model whose levels all have one code per frame")
    for n in range(len(clips)):
        audio = clips[n].to(model.device)
        for piece in torch.split(
            audio, ENCODED_SECONDS * config.sample_rate
        ):  # long clips need no long matrices
            codes = model.encode(piece[None, None]).audio_codes[0].to(torch.int16).cpu()
            n_groups = codes.shape[1] // group_frames
            cut = codes[:, : n_groups * group_frames].reshape(len(codes), n_groups, group_frames)
            groups.append(cut.transpose(0, 1))
    found = torch.cat(groups) if groups else torch.zeros(0)
    if not len(found):
        raise ModelError(f"no clip is as long as {group_frames} frames: give more audio")
    return found


def fit_tables(
    model: CodecModel, groups: Tensor, *, steps: int, seed: int = 0, progress: Progress = lambda *_: None
) -> Arrays:
    """Trains a `TableNetwork` on codes [N, n_q, F] of `model`; returns the arrays of `entropy.npz`."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = TableNetwork([level.codebook for level in model.quantizer.levels])
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            falling = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * falling
        codes = groups[torch.randint(len(groups), (BATCH_GROUPS,), generator=generator)].long()
        present = draw_present(codes, generator)
        bits = torch.stack([level.sum() for level in network(codes, present)]).sum() / present.sum()
        optimizer.zero_grad()
        bits.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, float(bits.detach()))
    return network.arrays()


def draw_present(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Which codes [B, n_q, F] are there: all, and for some items a number of levels that changes now and then."""
    batch_size, n_q, n_frames = codes.shape
    counts = torch.full((batch_size, n_frames), n_q)
    n_varied = round(VARIABLE_SHARE * batch_size)
    counts[:n_varied] = draw_runs(n_varied, n_frames, 0, n_q, generator)
    return torch.arange(n_q)[:, None] < counts[:, None]
