"""The prior: a causal transformer over frames, and in each frame a small network from level to level.

With c(t, l) the code of frame t at level l, it gives

    p(codes) = product over t and l of p(c(t, l) | all codes of the frames before t, c(t, 0) .. c(t, l - 1), kind)

as far as it reaches back: each of its layers attends to span frames, so n_layers (span - 1) + 1 frames before t count.
The transformer sees one vector a frame, so its cost does not grow with the levels; what the levels of one frame owe to
each other is left to the second network. Source: Lee et al. 2022, "Autoregressive image generation using residual
quantization" (RQ-transformer, section 3.2). Unlike theirs, the second network is no transformer: what attention could
fetch, the few codes below, is its input as a whole, and each level has weights of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.prior.config import NetworkConfig, PriorConfig

ROTARY_BASE = 10_000.0
WEIGHT_DEVIATION = 0.02
INPUT_DEVIATION = (
    0.5  # of what the codes before a frame bring to the transformer, and so of what stands beside them
)


class PriorState(NamedTuple):
    """What the transformer carries from frame to frame.

    n_frames: seen so far. layers: keys and values [B, H, up to span - 1, D] of each layer.
    """

    n_frames: int
    layers: tuple[tuple[Tensor, Tensor], ...]


class Attention(nn.Module):
    """Causal self-attention over the last `span` frames; only distances count. x [B, F, D] -> y [B, F, D].

    Positions: rotary. Source: Su et al. 2021, eq. 34.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.n_heads, self.span = config.n_heads, config.span
        self.enter = nn.Linear(config.dim, 3 * config.dim, bias=False)
        self.leave = nn.Linear(config.dim, config.dim, bias=False)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch_size, n_frames, dim = x.shape
        queries, keys, values = (
            part.view(batch_size, n_frames, self.n_heads, -1).transpose(1, 2)
            for part in self.enter(x).chunk(3, dim=-1)
        )
        keys = torch.cat([state[0].to(keys.dtype), rotate(keys, rotation)], dim=2)
        values = torch.cat([state[1].to(values.dtype), values], dim=2)
        y = F.scaled_dot_product_attention(
            rotate(queries, rotation),
            keys,
            values,
            attn_mask=mask,
        )
        first = max(0, keys.shape[2] - (self.span - 1))
        left = keys[:, :, first:], values[:, :, first:]
        return self.leave(y.transpose(1, 2).reshape(batch_size, n_frames, dim)), left


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turns pairs of x [B, H, F, D] by the angles of their frames: cosines and sines, [F, D / 2] each."""
    cosines, sines = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)


def rotation_of(
    first_frame: int, n_frames: int, head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n_frames, head_dim / 2]; angles are float64, so that hours are as exact as seconds."""
    rates = ROTARY_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    frames = torch.arange(first_frame, first_frame + n_frames, dtype=torch.float64)
    angles = frames[:, None] * rates
    return angles.cos().float().to(device), angles.sin().float().to(device)


def layer_norm(dim: int) -> nn.LayerNorm:
    """Without a bias, which the layers after it have or do without; one call on a CPU, unlike torch's RMS norm."""
    return nn.LayerNorm(dim, bias=False)


class Block(nn.Module):
    """Attention, then a two-layer network on each frame, both added to x [B, F, D]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention_norm, self.norm = layer_norm(dim), layer_norm(dim)
        self.attention = Attention(config)
        self.widen = nn.Linear(dim, config.expansion * dim, bias=False)
        self.narrow = nn.Linear(config.expansion * dim, dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for leaving in (self.attention.leave, self.narrow):  # so that depth does not add up
            nn.init.normal_(leaving.weight, std=WEIGHT_DEVIATION / math.sqrt(2 * config.n_layers))
        for entering in (self.attention.enter, self.widen):
            nn.init.normal_(entering.weight, std=WEIGHT_DEVIATION)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, state = self.attention(self.attention_norm(x), rotation, mask, state)
        x = x + self.dropout(y)
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.norm(x))))), state


class Level(nn.Module):
    """Logits of one level's codes, from the frame's context and the embeddings of the levels below.

    context [..., dim], below [..., level * embedding_dim] -> [..., codebook size].
    """

    def __init__(self, config: NetworkConfig, level: int, codebook_size: int) -> None:
        super().__init__()
        dim = config.depth_dim
        self.enter = nn.Linear(config.dim + level * config.embedding_dim, dim)
        self.norm, self.last_norm = layer_norm(dim), layer_norm(dim)
        self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.leave = nn.Linear(dim, codebook_size)
        nn.init.normal_(self.leave.weight, std=WEIGHT_DEVIATION)
        nn.init.zeros_(self.leave.bias)

    def forward(self, context: Tensor, below: Tensor) -> Tensor:
        x = self.enter(torch.cat([context, below], dim=-1)).float()  # under autocast too, as in the blocks
        x = x + self.dropout(self.narrow(F.gelu(self.widen(self.norm(x)))))
        logits: Tensor = self.leave(self.last_norm(x))
        return logits


class Prior(nn.Module):
    """Probabilities of a model's codes, frame by frame and level by level; what it is made of is `config`.

    codebooks: per level [K, D], what embeddings start from; without them they start at random.

    >>> prior = Prior(PriorConfig("00", "demo", (16, 8), ("speech",), NetworkConfig(dim=16, n_layers=1))).eval()
    >>> prior.bits(torch.zeros(1, 2, 10, dtype=torch.int64), torch.tensor([0])).shape
    torch.Size([1, 2, 10])
    """

    def __init__(self, config: PriorConfig, codebooks: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.config = config
        network, sizes = config.network, config.codebook_sizes
        starts = (
            [torch.randn(size, network.embedding_dim) for size in sizes]
            if codebooks is None
            else [first_embeddings(book, network.embedding_dim) for book in codebooks]
        )
        self.embeddings = nn.ParameterList([nn.Parameter(start) for start in starts])
        self.enter = nn.Linear(config.n_q * network.embedding_dim, network.dim, bias=False)
        self.begin = nn.Parameter(INPUT_DEVIATION * torch.randn(network.dim))
        self.kinds = nn.Embedding(len(config.kinds) + 1, network.dim)
        nn.init.normal_(self.kinds.weight, std=INPUT_DEVIATION)
        self.blocks = nn.ModuleList([Block(network) for _ in range(network.n_layers)])
        self.norm = layer_norm(network.dim)
        levels = nn.ModuleList([Level(network, n, size) for n, size in enumerate(sizes)])
        self.levels = cast(list[Level], levels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.begin.device

    def initial_state(self, batch_size: int) -> PriorState:
        """State before the first frame."""
        network = self.config.network
        nothing = torch.zeros(
            batch_size, network.n_heads, 0, network.dim // network.n_heads, device=self.device
        )
        return PriorState(0, ((nothing, nothing),) * network.n_layers)

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, n, F] of the first n levels -> their embeddings, one beside the other [B, F, n * embedding_dim]."""
        pairs = zip(codes.unbind(1), self.embeddings, strict=False)
        return torch.cat([F.embedding(level, weights) for level, weights in pairs], dim=-1)

    def contexts(self, embedded: Tensor, kinds: Tensor, state: PriorState) -> tuple[Tensor, PriorState]:
        """What is known of each frame before its first code.

        embedded [B, F, n_q * embedding_dim]: the frames *before* those that are asked for (`embed`); at the very
        start of a recording that is one less, for nothing comes before its first frame. kinds [B]: numbers of the
        kinds -> [B, F, dim] (F + 1 at the start), state.
        """
        x = self.enter(embedded).float()  # under autocast too: blocks add up in float32
        if state.n_frames == 0:
            x = torch.cat([self.begin.expand(len(x), 1, -1), x], dim=1)
        x = x + self.kinds(kinds)[:, None]
        n_frames, network = x.shape[1], self.config.network
        rotation = rotation_of(state.n_frames, n_frames, network.dim // network.n_heads, x.device)
        mask = span_mask(n_frames, state.layers[0][0].shape[2], network.span, x.device)
        after = []
        for block, before in zip(self.blocks, state.layers, strict=True):
            x, left = block(x, rotation, mask, before)
            after.append(left)
        return self.norm(x), PriorState(state.n_frames + n_frames, tuple(after))

    def bits(self, codes: Tensor, kinds: Tensor) -> Tensor:
        """What each code of whole recordings costs: -log2 of its probability.

        codes [B, n_q, F] (int64), kinds [B] -> [B, n_q, F], float32.
        """
        embedded = self.embed(codes)
        contexts, _ = self.contexts(embedded[:, :-1], kinds, self.initial_state(len(codes)))
        return self.bits_in(contexts, embedded, codes)

    def bits_in(self, contexts: Tensor, embedded: Tensor, codes: Tensor) -> Tensor:
        """Bits [B, n_q, F] of codes [B, n_q, F], embedded [B, F, n_q * embedding_dim], in contexts [B, F, dim]."""
        width, costs = self.config.network.embedding_dim, []
        for n, level in enumerate(self.levels):
            logits = level(contexts, embedded[..., : n * width]).float()
            costs.append(F.cross_entropy(logits.transpose(1, 2), codes[:, n], reduction="none"))
        return torch.stack(costs, dim=1) / math.log(2)


def span_mask(n_frames: int, n_before: int, span: int, device: torch.device) -> Tensor | None:
    """Which keys [n_frames, n_before + n_frames] each frame attends to; None: all. The first n_before are older."""
    if n_frames == 1 and n_before < span:
        return None
    own = torch.arange(n_before, n_before + n_frames, device=device)[:, None]
    distance = own - torch.arange(n_before + n_frames, device=device)
    return (distance >= 0) & (distance < span)


def first_embeddings(codebook: Tensor, dim: int) -> Tensor:
    """A codebook [K, D] as embeddings [K, dim] of deviation 1: its main directions, where D is larger.

    All levels get the same deviation: fine ones would be nearly nothing beside the coarse ones.
    """
    book = codebook.detach().float().cpu()
    book = book - book.mean(0)
    if book.shape[1] > dim:
        _, _, directions = torch.linalg.svd(book, full_matrices=False)
        book = book @ directions[:dim].T
    book = book / book.square().mean().sqrt().clamp(min=1e-9)
    missing = dim - book.shape[1]
    return torch.cat([book, torch.randn(len(book), missing)], dim=1) if missing else book
