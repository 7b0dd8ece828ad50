"""One training step: crops in, weights a little better."""

from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from audiocodec.model.quantizer import Quantized
from audiocodec.train.codebooks import MovingAverages, follow_statistics, initialise
from audiocodec.train.data import Clips, random_crops
from audiocodec.train.discriminators import adversarial_losses, critic_loss
from audiocodec.train.levels import draw_runs
from audiocodec.train.losses import reconstruction_losses
from audiocodec.train.recipe import LossConfig, StageConfig
from audiocodec.train.state import TrainingState, update_averaged


def train_step(state: TrainingState, clips: Clips, *, bf16: bool) -> dict[str, Tensor]:
    """Advances `state` by one step; returns the loss terms, unweighted, and their weighted sum as "loss"."""
    recipe = state.recipe
    stage, progress = recipe.stage_at(state.step)
    if stage.quantize and started_levels(state) < recipe.levels_of(stage):
        start_codebooks(state, clips, recipe.levels_of(stage), bf16=bf16)
    audio = draw_batch(state, clips)
    learning_rate = ramp(stage.learning_rate, progress)
    learning_rate *= min(1.0, (state.step + 1) / recipe.optimizer.warmup_steps)

    with autocast(state.device, bf16):
        output = state.model(
            audio,
            draw_levels(state, stage),
            noise=ramp(stage.noise, progress),
            noisy=draw_noisy(state, stage),
            levels=recipe.levels_of(stage),
            temperature=ramp(stage.temperature, progress),
            searched=stage.searched,
            decoder_only=stage.decoder_only,
        )
    decoded, original = align(output.audio, audio, recipe.model.delay)
    losses = reconstruction_losses(
        decoded, original, recipe.model.sample_rate, recipe.loss.distance, terms=state.window_terms
    )
    if output.quantized is not None:
        losses["codebook"] = output.quantized.codebook_loss
        losses["commitment"] = output.quantized.commitment_loss
    if output.gaussian is not None:
        losses["kl"] = output.gaussian.divergence()
    figures = {}
    if stage.adversarial:
        figures["critic"] = critic_step(state, decoded.detach(), original, learning_rate, bf16=bf16)
        losses |= judge(state, decoded, original, bf16=bf16)

    weighted = [
        loss_weight(recipe.loss_of(stage), name, state.step) * value for name, value in losses.items()
    ]
    total = torch.stack(weighted).sum()
    total.backward()  # type: ignore[no-untyped-call]
    figures["grad_norm"] = apply_gradients(
        state.model, state.optimizer, learning_rate, recipe.optimizer.max_grad_norm
    )
    if output.quantized is not None and not stage.decoder_only:
        follow_codebooks(state, output.quantized, stage.ema_decay or recipe.codebooks.ema_decay)
    state.step += 1
    update_averaged(state)
    figures |= {"loss": total, **losses}
    return {name: value.detach() for name, value in figures.items()}


def loss_weight(loss: LossConfig, term: str, step: int) -> float:
    """Weight of a term at a step."""
    weight: float = getattr(loss, term)
    return weight * min(1.0, (step + 1) / max(1, loss.kl_warmup_steps)) if term == "kl" else weight


def draw_batch(state: TrainingState, clips: Clips) -> Tensor:
    """The next crops [B, 1, T], as the recipe wants them."""
    recipe = state.recipe
    data = recipe.data
    return random_crops(clips, data.batch_size, recipe.crop_samples, state.generator, speeds=data.speeds)


def ramp(ends: tuple[float, ...], progress: float) -> float:
    """Linear from the first value to the last."""
    return ends[0] + (ends[-1] - ends[0]) * progress


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[object]:
    """bf16 where it pays; losses, transforms and code search stay float32 by themselves."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def align(decoded: Tensor, audio: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """Decoded and original audio [B, T - delay]: what lags is cut, what was not decoded yet is left out."""
    return decoded[:, 0, delay:].float(), audio[:, 0, : audio.shape[-1] - delay]


def draw_levels(state: TrainingState, stage: StageConfig) -> Tensor | None:
    """Levels that each item of the batch uses: all, or any number at random; None in a continuous stage.

    [B], or [B, F] where there are items whose number varies.
    """
    if not stage.quantize:
        return None
    recipe, batch_size = state.recipe, state.recipe.data.batch_size
    n_q = recipe.levels_of(stage)
    drawn = torch.randint(1, n_q + 1, (batch_size,), generator=state.generator)
    drawn[: round(stage.full_share * batch_size)] = n_q
    n_varied = round(stage.varied_share * batch_size)
    if n_varied:
        n_frames = recipe.crop_samples // recipe.model.hop_length
        drawn = drawn[:, None].repeat(1, n_frames)
        drawn[batch_size - n_varied :] = draw_runs(n_varied, n_frames, 1, n_q, state.generator)
    return drawn.to(state.device, non_blocking=True)


def draw_noisy(state: TrainingState, stage: StageConfig) -> Tensor | None:
    """Items of the batch that get noise in place of their quantization error, whatever number of levels they use."""
    if not stage.quantize or stage.noise_share == 0:
        return None
    batch_size = state.recipe.data.batch_size
    order = torch.randperm(batch_size, generator=state.generator)
    return (order < round(stage.noise_share * batch_size)).to(state.device, non_blocking=True)


def apply_gradients(
    module: nn.Module, optimizer: torch.optim.Optimizer, learning_rate: float, max_norm: float
) -> Tensor:
    """Averages gradients over processes, clips them, steps, clears them; returns their norm before clipping."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if dist.is_initialized():
        # one sum of one vector: which parts learn differs by stage, which a wrapping module would have to be told
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()
    return norm


def critic_step(
    state: TrainingState, decoded: Tensor, original: Tensor, learning_rate: float, *, bf16: bool
) -> Tensor:
    """Teaches the critics to tell decoded from original audio [B, T]; returns their loss."""
    state.critics.requires_grad_(True)
    with autocast(state.device, bf16):
        loss = critic_loss(state.critics(original), state.critics(decoded))
    loss.backward()  # type: ignore[no-untyped-call]
    apply_gradients(
        state.critics, state.critic_optimizer, learning_rate, state.recipe.optimizer.max_grad_norm
    )
    return loss


def judge(state: TrainingState, decoded: Tensor, original: Tensor, *, bf16: bool) -> dict[str, Tensor]:
    """The critics' loss terms for the codec; the critics themselves learn nothing here."""
    state.critics.requires_grad_(False)
    with autocast(state.device, bf16):
        with torch.no_grad():
            real = state.critics(original)
        return adversarial_losses(real, state.critics(decoded))


def started_levels(state: TrainingState) -> int:
    """Levels whose codebooks have their first entries."""
    return 0 if state.codebooks is None else len(state.codebooks.counts)


@torch.no_grad()
def start_codebooks(state: TrainingState, clips: Clips, n_levels: int, *, bf16: bool) -> None:
    """First entries of the levels up to n_levels that have none, from latents of random crops.

    The first process's serve all.
    """
    settings, recipe = state.recipe.codebooks, state.recipe
    latents = []
    for _ in range(-(-settings.kmeans_frames // recipe.frames_per_step)):
        audio = draw_batch(state, clips)
        with autocast(state.device, bf16):
            latents.append(state.model.encoder(audio, state.model.encoder.initial_state(len(audio)))[0])
    new = range(started_levels(state), n_levels)
    quantizer = state.model.quantizer
    initialise(quantizer, torch.cat(latents), state.generator, new, start=settings.start)
    n_processes = dist.get_world_size() if dist.is_initialized() else 1
    for n in new:
        ours, means = (model.quantizer.levels[n].parameters() for model in (state.model, state.averaged))
        for parameter, mean in zip(ours, means, strict=True):
            if dist.is_initialized():
                dist.broadcast(parameter.data, src=0)
            mean.copy_(parameter)
    if state.codebooks is None:
        state.codebooks = MovingAverages(settings.ema_decay, [], [])
    state.codebooks.include(quantizer, new, recipe.frames_per_step * n_processes)


def follow_codebooks(state: TrainingState, quantized: Quantized, decay: float) -> None:
    """Moves what follows averages of residuals: statistics, and codebooks that are not learned by gradient."""
    assert state.codebooks is not None, "start_codebooks comes first"
    settings = state.recipe.codebooks
    state.codebooks.decay = decay
    for n, residual in enumerate(quantized.residuals.unbind(1)):
        follow_statistics(state.model.quantizer.levels[n], residual, decay)
    if settings.update != "gradient":
        split_share = settings.split_share if settings.update == "adaptive" else None
        state.codebooks.update(
            state.model.quantizer,
            quantized,
            settings.refill_share,
            state.generator,
            split_share=split_share,
        )
