"""Training of the VQ-VAE tokenizer, an objective that several methods share."""

import dataclasses
import functools
import logging
from collections.abc import Collection

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax.losses import vqvae as losses
from jowa_jax.methods.base import (
  Aux,
  Metrics,
  Objective,
  Tokenizer,
  Variables,
)
from jowa_jax.models import lpips
from jowa_jax.models.vqvae import VQVAE, VQVAEConfig, normalize_frames
from jowa_jax.types import Params, Segment

# The objective that trains a tokenizer, and what its parameters are called.
TOKENIZER = 'tokenizer'


@dataclasses.dataclass(frozen=True)
class TokenizerTraining:
  """How the tokenizer is trained; the defaults are the paper's.

  Attributes:
    frames_per_step: frames drawn from each batch; all of them if it has fewer.
    perceptual_weights: file with LPIPS weights; None leaves the term out.
    codebook_init_step: step at which the codebook is replaced by encoder
      outputs; 0 never.
    restart_period: steps between replacements of codes unused since the last
      one; 0 never.
    restart_until: last step at which codes are restarted.
    restart_noise: standard deviation added to replaced codes.
    restart_at_errors: whether replaced codes are drawn from encoder outputs in
      proportion to their squared distance from the nearest code, as k-means++
      seeds its centres (Arthur and Vassilvitskii, 2007), so that they go to
      what is rare and badly told apart; evenly if not.
    motion_weight: extra weight of the reconstruction error on pixels that
      depart from their game's median frame.
    motion_threshold: departure that counts, in units of the pixel range.
    embed_codes: standard deviation of what is added to the backbone's
      observation embedding once the tokenizer was trained alone: the codebook,
      whitened and projected at random, so that codes that look alike begin
      alike. 0 for nothing, as in the paper.
  """

  frames_per_step: int = 2048
  perceptual_weights: str | None = None
  codebook_init_step: int = 0
  restart_period: int = 0
  restart_until: int = 0
  restart_noise: float = 0.01
  restart_at_errors: bool = False
  motion_weight: float = 0.0
  motion_threshold: float = 0.06
  embed_codes: float = 0.0

  def __post_init__(self):
    if self.frames_per_step < 1:
      raise ValueError(f'frames_per_step={self.frames_per_step} is not >= 1')
    if self.motion_weight < 0 or not 0 <= self.motion_threshold <= 1:
      raise ValueError(
        f'motion_weight={self.motion_weight} must not be negative and '
        f'motion_threshold={self.motion_threshold} must be in [0, 1]'
      )
    if self.embed_codes < 0:
      raise ValueError(f'embed_codes={self.embed_codes} is negative')
    if bool(self.restart_period) != bool(self.restart_until):
      raise ValueError(
        'restart_period and restart_until go together, got '
        f'{self.restart_period} and {self.restart_until}'
      )

  @property
  def replaces_codes(self) -> bool:
    return self.codebook_init_step > 0 or self.restart_period > 0

  @property
  def statistics(self) -> tuple[str, ...]:
    """Names of what `init_extras` reads of a data set."""
    return (MEDIAN_FRAMES,) if self.motion_weight else ()

  @property
  def files(self) -> dict[str, str]:
    """See `Method.files`."""
    if self.perceptual_weights is None:
      return {}
    return {'tokenizer_training.perceptual_weights': self.perceptual_weights}


# Standard deviation of a direction of noise, of the codebook's largest.
_NOISE_FLOOR = 0.025

# The statistic of the data set that weighs moving pixels, [60, H, W] uint8.
MEDIAN_FRAMES = 'median_frames'


def init(config: VQVAEConfig, key: chex.PRNGKey) -> Params:
  """Fresh tokenizer parameters."""
  frame = jnp.zeros((1, config.resolution, config.resolution), jnp.uint8)
  return VQVAE(config).init(key, frame)['params']


def init_extras(
  config: VQVAEConfig, training: TokenizerTraining, statistics
) -> dict[str, chex.Array]:
  """What `objective` and `replace_codes` keep in `Variables.extras`."""
  extras = {}
  if training.replaces_codes:
    extras['code_usage'] = jnp.zeros((config.vocab_size,), jnp.int32)
  if training.motion_weight:
    extras[MEDIAN_FRAMES] = jnp.asarray(statistics[MEDIAN_FRAMES], jnp.uint8)
  return extras


def encode(
  config: VQVAEConfig, params: Params, frames: chex.Array
) -> chex.Array:
  """Tokens [..., K] int32 of frames [..., H, W] uint8."""
  return VQVAE(config).apply({'params': params}, frames, method='encode')


def segment_tokens(
  config: VQVAEConfig, params: Params, batch: Segment
) -> chex.Array:
  """A batch's tokens [B, T, K] int32, encoded now if need be."""
  if batch.tokens is not None:
    return batch.tokens.astype(jnp.int32)
  return lax.stop_gradient(encode(config, params, batch.observations))


def decode(
  config: VQVAEConfig, params: Params, tokens: chex.Array
) -> chex.Array:
  """Frames [..., H, W] uint8 of tokens [..., K]."""
  return VQVAE(config).apply({'params': params}, tokens, method='decode')


def tokenizer(config: VQVAEConfig, training: TokenizerTraining) -> Tokenizer:
  """The tokenizer as what others may use of it, see `Method.tokenizer`."""
  return Tokenizer(
    params=('tokenizer',),
    encode=lambda variables, frames: encode(
      config, variables.params['tokenizer'], frames
    ),
    decode=lambda variables, tokens: decode(
      config, variables.params['tokenizer'], tokens
    ),
    vocab_size=config.vocab_size,
    motion_threshold=training.motion_threshold,
  )


def tokenizer_losses(
  config: VQVAEConfig,
  params: Params,
  frames: chex.Array,
  weights: chex.Array | None = None,
) -> tuple[dict[str, chex.Array], dict[str, chex.Array]]:
  """The loss terms and what was computed on the way.

  Args:
    config: of the tokenizer.
    params: of the tokenizer.
    frames: [N, H, W] uint8.
    weights: [N, H, W] of the reconstruction error, or None.

  Returns:
    Terms `reconstruction` and `commitment`, and `latents` [N, K, D], `tokens`
    [N, K] and `reconstruction` [N, H, W] in [-1, 1].
  """
  model, variables = VQVAE(config), {'params': params}
  z = model.apply(variables, frames, method='latents')
  tokens = lax.stop_gradient(model.apply(variables, z, method='quantize'))
  codes = model.apply(variables, tokens, method='embed')
  quantized = losses.straight_through(z, codes)
  x_hat = model.apply(variables, quantized, method='reconstruct')
  x = normalize_frames(frames)
  terms = {
    'reconstruction': losses.reconstruction_loss(x, x_hat, weights),
    'commitment': losses.commitment_loss(z, codes),
  }
  return terms, {'latents': z, 'tokens': tokens, 'reconstruction': x_hat}


def objective(config: VQVAEConfig, training: TokenizerTraining) -> Objective:
  """The objective that trains the tokenizer on frames of a batch.

  Valid frames come first; padding is drawn only where they do not suffice.

  The loss raises ValueError or FileNotFoundError, when it is traced, if the
  file of perceptual weights cannot be used.
  """

  @functools.cache
  def perceptual():
    # Read when the loss is traced: acting does not need the file.
    return lpips.load_params(training.perceptual_weights)

  def loss(variables: Variables, batch: Segment, key: chex.PRNGKey, step):
    del step
    draw_key, dropout_key, code_key = jax.random.split(key, 3)
    frames, tasks = _draw_frames(batch, training.frames_per_step, draw_key)
    weights = None
    if training.motion_weight:
      weights = losses.motion_weights(
        frames,
        jnp.take(variables.extras[MEDIAN_FRAMES], tasks, axis=0),
        training.motion_weight,
        training.motion_threshold,
      )
    terms, out = tokenizer_losses(
      config, variables.params['tokenizer'], frames, weights
    )
    if training.perceptual_weights is None:
      # Said when the step is traced, so once per stage that trains it.
      logging.info(
        'No LPIPS weight file given: the tokenizer trains without the '
        'perceptual loss (tokenizer_training.perceptual_weights).'
      )
    else:
      terms['perceptual'] = lpips.lpips_distance(
        perceptual(),
        normalize_frames(frames)[..., None],
        out['reconstruction'][..., None],
        dropout_key=dropout_key,
      ).mean()
    counts = jnp.bincount(out['tokens'].reshape(-1), length=config.vocab_size)
    metrics = {f'tokenizer/{name}': value for name, value in terms.items()}
    if weights is not None:
      # As it is measured on held-out frames.
      metrics['tokenizer/weighted_reconstruction'] = terms['reconstruction']
      metrics['tokenizer/reconstruction'] = losses.reconstruction_loss(
        normalize_frames(frames), out['reconstruction']
      )
    metrics['tokenizer/perplexity'] = losses.perplexity(counts)
    carry = {
      'latents': out['latents'],
      'code_counts': counts,
      'code_key': code_key,
    }
    return sum(terms.values()), Aux(metrics, carry)

  return Objective(params=('tokenizer',), loss=loss, flops={})


def _draw_frames(batch: Segment, count: int, key: chex.PRNGKey):
  """Draws frames and their tasks; padding comes last, if it must come."""
  steps = batch.mask.size
  frames = batch.observations.reshape(steps, *batch.observations.shape[2:])
  tasks = jnp.repeat(batch.task, batch.mask.shape[1])
  if count >= steps:
    return frames, tasks
  priority = jax.random.uniform(key, (steps,)) + batch.mask.reshape(-1)
  _, drawn = lax.top_k(priority, count)
  return frames[drawn], tasks[drawn]


def replace_codes(
  training: TokenizerTraining,
  variables: Variables,
  carry: dict[str, chex.Array],
  step: chex.Array,
) -> Variables:
  """Moves codes that nothing uses to where the encoder's outputs are.

  Does nothing in a stage that does not train the tokenizer, or when neither
  option is on.

  Args:
    training: names the steps at which codes are replaced.
    variables: after the update.
    carry: of `objective`'s loss; its latents are the pool that codes are drawn
      from.
    step: of the stage, from 1.
  """
  if not training.replaces_codes or 'latents' not in carry:
    return variables
  usage = variables.extras['code_usage'] + carry['code_counts']
  tokenizer = variables.params['tokenizer']
  period = max(training.restart_period, 1)
  initialise = step == training.codebook_init_step
  restart = (
    (training.restart_period > 0)
    & (step > training.codebook_init_step)
    & (step <= training.restart_until)
    & (step % period == 0)
  )

  def draw(codebook):
    pool = carry['latents'].reshape(-1, codebook.shape[1])
    row_key, noise_key = jax.random.split(carry['code_key'])
    shape = codebook.shape[:1]
    if training.restart_at_errors:
      norms = (pool**2).sum(-1, keepdims=True) + (codebook**2).sum(-1)
      distances = (norms - 2 * pool @ codebook.T).min(-1)
      # At the first step all may lie on codes; then none is preferred.
      logits = jnp.log(jnp.maximum(distances, 1e-12))
      rows = jax.random.categorical(row_key, logits, shape=shape)
    else:
      rows = jax.random.randint(row_key, shape, 0, pool.shape[0])
    noise = jax.random.normal(noise_key, codebook.shape)
    fresh = pool[rows] + training.restart_noise * noise
    replaced = initialise | (usage == 0)
    return jnp.where(replaced[:, None], fresh, codebook)

  codebook = lax.cond(
    initialise | restart, draw, lambda codebook: codebook, tokenizer['codebook']
  )
  usage = jnp.where(initialise | restart, 0, usage)
  return variables.replace(
    params={
      **variables.params,
      'tokenizer': {**tokenizer, 'codebook': codebook},
    },
    extras={**variables.extras, 'code_usage': usage},
  )


def embed_codes(
  training: TokenizerTraining,
  variables: Variables,
  objectives: Collection[str],
  before: Collection[str],
) -> Variables:
  """Puts the codebook's geometry into the backbone's observation embedding.

  A `Method.begin_stage`: it acts as the first stage begins that trains a
  backbone on the codes of a tokenizer that was trained alone.

  Args:
    training: says how much.
    variables: before the stage.
    objectives: those of the stage.
    before: those of the stages before it.
  """
  alone = set(before) == {'tokenizer'} and 'tokenizer' not in objectives
  if not training.embed_codes or not alone:
    return variables
  codes = variables.params['tokenizer']['codebook']
  codes = codes - codes.mean(axis=0)
  power, axes = jnp.linalg.eigh(codes.T @ codes / len(codes))
  # A few directions hold nearly all of a trained codebook's variance, and a few
  # more tell codes apart: all of these weigh alike, those of noise do not.
  white = codes @ axes * lax.rsqrt(power + _NOISE_FLOOR**2 * power[-1])
  backbone = variables.params['backbone']
  table = backbone['observation_embedding']
  project = jax.random.normal(jax.random.key(0), (len(axes), table.shape[1]))
  added = white @ project
  table = table + training.embed_codes * added / jnp.std(added)
  backbone = {**backbone, 'observation_embedding': table}
  return variables.replace(params={**variables.params, 'backbone': backbone})


def evaluate(config: VQVAEConfig, params: Params, batch: Segment) -> Metrics:
  """Reconstruction error and perplexity on a batch's valid frames.

  Nothing where the batch holds tokens in place of frames.
  """
  if batch.observations is None:
    return {}
  frames, _ = _draw_frames(batch, batch.mask.size, jax.random.key(0))
  mask = batch.mask.reshape(-1).astype(jnp.float32)
  weights = jnp.broadcast_to(
    (mask / jnp.maximum(mask.mean(), 1e-6))[:, None, None], frames.shape
  )
  terms, out = tokenizer_losses(config, params, frames, weights)
  counts = jnp.bincount(
    out['tokens'].reshape(-1),
    weights=jnp.repeat(mask, out['tokens'].shape[1]),
    length=config.vocab_size,
  )
  return {
    'tokenizer/reconstruction': terms['reconstruction'],
    'tokenizer/perplexity': losses.perplexity(counts),
  }
