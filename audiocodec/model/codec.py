"""CodecModel: encoder, residual quantizer, decoder. One forward for whole clips, blocks and streams."""

import hashlib
import json
from dataclasses import asdict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocodec.codes import CODE_SPACE_ID_BYTES, CodeSpace
from audiocodec.errors import ModelError
from audiocodec.model.config import ModelConfig, ResidualConfig
from audiocodec.model.decoder import build_decoder
from audiocodec.model.encoder import build_encoder
from audiocodec.model.gaussian import Gaussian, GaussianBottleneck
from audiocodec.model.layers import CodecState
from audiocodec.model.quantizer import Quantized, build_quantizer


class EncoderOutput(NamedTuple):
    """audio_codes [B, n_q, F] (int64, 0 beyond an item's frames); frames [B]: how many frames each item has."""

    audio_codes: Tensor
    frames: Tensor


class DecoderOutput(NamedTuple):
    """audio_values [B, 1, T], float32."""

    audio_values: Tensor


class TrainingOutput(NamedTuple):
    """audio [B, 1, T] (lagging `delay` samples), latents [B, D, F], and the bottleneck's part if it was on."""

    audio: Tensor
    latents: Tensor
    quantized: Quantized | None
    gaussian: Gaussian | None


class CodecModel(nn.Module):
    """The neural codec of one mono lane; what it is made of is `config`.

    It is a `VariableModel`; more than that, a batch of whole clips is one call.

    >>> model = CodecModel(ModelConfig()).eval()
    >>> codes = model.encode(torch.zeros(1, 1, 24000), n_q=4).audio_codes
    >>> codes.shape, model.decode(codes).audio_values.shape
    (torch.Size([1, 4, 78]), torch.Size([1, 1, 24000]))
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.quantizer = build_quantizer(config)
        self.gaussian = GaussianBottleneck(config.latent_dim) if config.bottleneck == "gaussian" else None
        self.decoder = build_decoder(config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def receptive_field(self) -> int:
        """Frames before the current one that decoded audio depends on."""
        return self.decoder.receptive_field

    @property
    def start_multiple(self) -> int:
        """Decoding may start at any frame (the coarsest level's frames per code are seen to elsewhere)."""
        return 1

    def code_space(self) -> CodeSpace:
        """What the model's codes mean. Its id is a hash of the facts and codebooks that decoding depends on.

        A decoder that is trained further on the same codebooks keeps it; any other quantizer has another one.
        Raises ModelError for a model without codes.
        """
        config, quantizer = self.config, self.config.quantizer
        self._check_levels(None)
        facts = {
            "sample_rate": config.sample_rate,
            "hop_length": config.hop_length,
            "delay": config.delay,
            "latent_dim": config.latent_dim,
            "quantizer": asdict(quantizer),
        }
        if config.residual != ResidualConfig():
            facts["residual"] = asdict(config.residual)
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for tensor in self.quantizer.tensors():
            digest.update(tensor.detach().cpu().float().numpy().astype("<f4").tobytes())
        return CodeSpace(
            id=digest.digest()[:CODE_SPACE_ID_BYTES],
            model=config.name,
            sample_rate=config.sample_rate,
            hop_length=config.hop_length,
            delay=config.delay,
            codebook_sizes=quantizer.codebook_sizes,
            frames_per_code=quantizer.frames_per_code,
        )

    def encoder_state(self, batch_size: int) -> CodecState:
        """State to encode the first block of a recording with."""
        return self.encoder.initial_state(batch_size)

    def decoder_state(self, batch_size: int, first_frame: int = 0) -> CodecState:
        """State to decode the first block with; it is the same wherever in a recording that is."""
        return self.decoder.initial_state(batch_size)

    def encode_block(self, audio: Tensor, state: CodecState, n_q: int) -> tuple[Tensor, CodecState]:
        """The next samples [B, 1, F * hop_length] -> codes [B, n_q, F], state.

        F must be a multiple of the coarsest level's frames_per_code. The first state is
        `encoder_state(B)`.
        """
        latents, state = self.encoder(audio, state)
        return self.quantizer.encode(latents, n_q), state

    def decode_block(self, codes: Tensor, state: CodecState) -> tuple[Tensor, CodecState]:
        """The next codes [B, n_q, F] -> audio [B, 1, F * hop_length] that lags `config.delay` samples, state."""
        audio, state = self.decoder(self.quantizer.decode(codes), state)
        return audio, state

    @torch.inference_mode()
    def silence(self) -> Tensor:
        """What stands for a frame without levels: decoder input [1, C, 1], as a second of digital silence leads to."""
        n_frames = round(self.config.sample_rate / self.config.hop_length)
        audio = torch.zeros(1, 1, n_frames * self.config.hop_length, device=self.device)
        latents: Tensor = self.encoder(audio, self.encoder_state(1))[0]
        return self.quantizer.bypass(latents[..., -1:])

    def decode_variable(
        self, codes: Tensor, counts: Tensor, silence: Tensor, state: CodecState
    ) -> tuple[Tensor, CodecState]:
        """As `decode_block`, with the first `counts` [B, F] levels of each frame; one of none is `silence`."""
        quantized = self.quantizer.decode(codes, counts) + silence * (counts == 0).unsqueeze(1)
        audio, state = self.decoder(quantized, state)
        return audio, state

    @torch.inference_mode()
    def encode(self, audio: Tensor, n_q: int | None = None, lengths: Tensor | None = None) -> EncoderOutput:
        """Codes of whole clips.

        audio [B, 1, T] float32 at the model's rate, on any device; n_q levels (all by default); lengths [B]: valid
        samples of each item (T by default). An item gets the codes that it gets alone. What comes out is where the
        weights are. Raises ValueError on a wrong shape.
        """
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio of shape {tuple(audio.shape)}: expected [B, 1, T]")
        n_q = self._check_levels(n_q)
        batch_size, _, n_samples = audio.shape
        lengths = torch.full((batch_size,), n_samples) if lengths is None else lengths.cpu()
        if lengths.shape != (batch_size,) or int(lengths.max()) > n_samples or int(lengths.min()) < 0:
            raise ValueError(
                f"lengths {lengths.tolist()}: expected {batch_size} numbers from 0 to {n_samples}"
            )
        hop, span = self.config.hop_length, self.config.quantizer.frames_per_code[0]
        frames = torch.where(lengths > 0, -(-(lengths + self.config.delay) // hop), 0)
        n_frames = -(-int(frames.max()) // span) * span
        if n_frames == 0:
            empty = torch.zeros(batch_size, n_q, 0, dtype=torch.int64, device=self.device)
            return EncoderOutput(empty, frames.to(self.device))
        valid = torch.arange(n_samples) < lengths[:, None]
        inside = torch.arange(n_frames) < frames[:, None]
        audio = audio.to(self.device) * valid[:, None].to(self.device)
        audio = F.pad(audio, (0, n_frames * hop - n_samples))
        codes, _ = self.encode_block(audio, self.encoder_state(batch_size), n_q)
        codes = codes * inside[:, None].to(self.device)
        return EncoderOutput(codes[..., : int(frames.max())], frames.to(self.device))

    @torch.inference_mode()
    def decode(self, audio_codes: Tensor, length: int | None = None) -> DecoderOutput:
        """Audio of whole clips.

        audio_codes [B, n_q, F] of the first n_q levels, on any device -> audio_values [B, 1, length], where the
        weights are; length is all that the frames hold unless given: up to one hop more than was encoded.
        """
        if audio_codes.ndim != 3:
            raise ValueError(f"codes of shape {tuple(audio_codes.shape)}: expected [B, n_q, F]")
        self._check_levels(audio_codes.shape[1])
        if audio_codes.shape[2] == 0:
            return DecoderOutput(torch.zeros(len(audio_codes), 1, 0, device=self.device))
        state = self.decoder_state(len(audio_codes))
        audio, _ = self.decode_block(audio_codes.to(self.device), state)
        return DecoderOutput(audio[..., self.config.delay :][..., :length])

    def forward(
        self,
        audio: Tensor,
        n_q: Tensor | None,
        *,
        noise: float = 0.0,
        noisy: Tensor | None = None,
        levels: int | None = None,
        temperature: float = 0.0,
        searched: bool = False,
        decoder_only: bool = False,
    ) -> TrainingOutput:
        """Training pass on crops [B, 1, F * hop_length].

        n_q [B] or [B, F]: levels of each item or frame; None leaves the quantizer out. noise: deviation of Gaussian
        noise that is added to the latents (which are normalised to 1) when there are no codes. noisy [B]: items that
        get noise in place of their quantization error. levels, temperature, searched: see `ResidualQuantizer`.
        decoder_only: nothing before the decoder gets gradients.
        A Gaussian bottleneck gives samples in training mode, else means.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not decoder_only):
            latents, _ = self.encoder(audio, self.encoder.initial_state(len(audio)))
            quantized = gaussian = None
            if n_q is not None:
                quantized = self.quantizer(
                    latents, n_q, noisy, levels=levels, temperature=temperature, searched=searched
                )
                bottleneck = quantized.quantized
            elif self.gaussian is not None:
                gaussian = self.gaussian(latents)
                bottleneck = gaussian.sample() if self.training else gaussian.mean
            else:
                disturbed = latents + noise * torch.randn_like(latents) if noise > 0 else latents
                bottleneck = self.quantizer.bypass(disturbed)
        decoded, _ = self.decoder(bottleneck, self.decoder.initial_state(len(audio)))
        return TrainingOutput(decoded, latents, quantized, gaussian)

    def _check_levels(self, n_q: int | None) -> int:
        if not self.config.has_codes:
            raise ModelError(
                f"model {self.config.name!r} has no codes (its bottleneck is {self.config.bottleneck!r}): "
                "take one with a quantizer"
            )
        n_q = self.quantizer.n_q if n_q is None else n_q
        if not 1 <= n_q <= self.quantizer.n_q:
            raise ValueError(f"{n_q} levels asked for: this model has 1 to {self.quantizer.n_q}")
        return n_q
