"""What a model must offer to be used by streams, files and tools: coding block by block, with explicit state."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from audiocodec.codes import CodeSpace


class BlockModel(Protocol):
    """A residual codec of lanes that are coded block by block.

    receptive_field: frames before the current one that decoded audio depends on.
    start_multiple: decoding may start inside a file at multiples of so many frames.
    State is made anew for each recording, goes in and comes out; what it holds is the model's own business.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def receptive_field(self) -> int: ...

    @property
    def start_multiple(self) -> int: ...

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        ...

    def encoder_state(self, batch_size: int) -> Any: ...

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> Any:
        """State for decoding from `first_frame` of a recording on."""
        ...

    def encode_block(self, audio: Tensor, state: Any, n_q: int, /) -> tuple[Tensor, Any]:
        """The next samples [B, C, F * hop_length], C = lane_channels -> codes [B, n_q, F], state.

        A level with m frames per code repeats each code m times.
        """
        ...

    def decode_block(self, codes: Tensor, state: Any, /) -> tuple[Tensor, Any]:
        """The next codes [B, n_q, F] -> audio [B, C, F * hop_length] that lags the code space's delay, state."""
        ...


@runtime_checkable
class VariableModel(BlockModel, Protocol):
    """A model whose frames may each have a number of levels of their own, and none for silence."""

    def silence(self) -> Tensor:
        """What stands for a frame without levels: the latents [1, D, 1] of digital silence."""
        ...

    def decode_variable(
        self, codes: Tensor, counts: Tensor, silence: Tensor, state: Any, /
    ) -> tuple[Tensor, Any]:
        """As `decode_block`, with the first `counts` [B, F] levels of each frame."""
        ...


@runtime_checkable
class LookAheadModel(BlockModel, Protocol):
    """A model that is not causal: it holds frames back until it has heard what follows them.

    Its `encode_block` and `decode_block` take blocks of any length, return as many frames as can be told by then,
    perhaps none, and the rest when the recording is over. The rest may have more frames than were
    given, where the model pads the end; the number of samples in the file says where to cut. Where segments overlap,
    there are fewer samples for as many frames: as the code space says.
    """

    def encode_rest(self, state: Any, n_q: int, /) -> Tensor:
        """Codes [B, n_q, F] of the frames held back."""
        ...

    def decode_rest(self, state: Any, /) -> Tensor:
        """Audio [B, C, F * hop_length] of the frames held back."""
        ...
