"""DAC, the Descript Audio Codec (Kumar et al. 2023), by `transformers`: convolutions that see both sides."""

from typing import Any

from torch import Tensor

from audiocodec.codes import CodeSpace
from audiocodec.hub.common import Adapter, code_space, values
from audiocodec.hub.windows import convolution_reach


class Dac(Adapter):
    """A `WholeCoder`: a `transformers.DacModel`."""

    unit = 1

    def __init__(self, model: Any, name: str) -> None:
        super().__init__(model, name)
        strides = tuple(model.config.downsampling_ratios)
        self.encoder_reach, self.decoder_reach = convolution_reach(strides, last_kernel=3)

    def code_space(self) -> CodeSpace:
        """What the codes mean."""
        config = self._model.config
        return code_space(
            family="dac",
            name=self._name,
            sample_rate=config.sampling_rate,
            hop_length=config.hop_length,
            codebook_sizes=(config.codebook_size,) * config.n_codebooks,
            frames_per_code=(1,) * config.n_codebooks,
            codebooks=[values(level.codebook.weight) for level in self._model.quantizer.quantizers],
        )

    def encode(self, audio: Tensor, n_q: int) -> Tensor:
        """audio [B, 1, F * hop_length] -> codes [B, n_q, F]."""
        codes: Tensor = self._model.encode(audio, n_quantizers=n_q).audio_codes
        return codes

    def decode(self, codes: Tensor, first_frame: int) -> Tensor:
        """codes [B, n_q, F] -> audio [B, 1, T]; an odd stride makes it a few samples short of F * hop_length."""
        audio: Tensor = self._model.decode(audio_codes=codes).audio_values
        return audio.unsqueeze(1)
