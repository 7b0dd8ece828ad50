"""What a prior makes of codes: contexts of long recordings in constant memory, and bits per code."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocodec.errors import ModelError
from audiocodec.prior.network import Prior, PriorState

PIECE_FRAMES = 512  # at once: attention's cost is pieces times (pieces + span)


def contexts_in_pieces(
    prior: Prior, embedded: Tensor, kinds: Tensor, state: PriorState
) -> Iterator[tuple[Tensor, PriorState]]:
    """`Prior.contexts` piece by piece: the same contexts, in constant memory. There is one piece at least."""
    for piece in torch.split(embedded, PIECE_FRAMES, dim=1) if embedded.shape[1] else (embedded,):
        contexts, state = prior.contexts(piece, kinds, state)
        yield contexts, state


@torch.inference_mode()
def bits_per_code(prior: Prior, codes: NDArray[np.int16], kind: str | None = None) -> NDArray[np.float32]:
    """What each code of a recording costs by the prior: -log2 of its probability; raw codes cost log2 of K.

    codes [n_q, F], of one lane (`Codes.values[lane]`), or of more levels, whose first n_q count; kind: what the
    recording is of, None where it is not said -> [n_q, F]. The mean is its score: the fewer bits, the likelier.
    Raises ModelError for codes of another shape, ValueError for a kind that the prior does not know.

    >>> from audiocodec.prior.config import NetworkConfig, PriorConfig
    >>> prior = Prior(PriorConfig("00", "demo", (16, 16), (), NetworkConfig(dim=16, n_layers=1))).eval()
    >>> bits_per_code(prior, np.zeros((2, 50), np.int16)).shape
    (2, 50)
    """
    config = prior.config
    if codes.ndim != 2 or len(codes) < config.n_q or codes.shape[1] < 1:
        raise ModelError(
            f"codes of shape {codes.shape}: expected [{config.n_q}, F], as many levels or more, of a frame or more"
        )
    kinds = torch.tensor([config.kind_index(kind)], device=prior.device)
    entries = torch.from_numpy(codes[: config.n_q].astype(np.int64))[None].to(prior.device)
    embedded, done, costs = prior.embed(entries), 0, []
    for contexts, _ in contexts_in_pieces(prior, embedded[:, :-1], kinds, prior.initial_state(1)):
        here = slice(done, done + contexts.shape[1])
        costs.append(prior.bits_in(contexts, embedded[:, here], entries[:, :, here])[0])
        done = here.stop
    found: NDArray[np.float32] = torch.cat(costs, dim=-1).cpu().numpy()
    return found
