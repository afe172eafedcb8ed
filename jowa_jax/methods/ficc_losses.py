"""FICC's losses on segments: watching, actions to latent actions, and Q."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jowa_jax import games
from jowa_jax.losses import agreement as tells
from jowa_jax.losses import ficc as losses_lib
from jowa_jax.losses.masked import masked_mean
from jowa_jax.methods.base import Metrics
from jowa_jax.methods.jowa_losses import BACKUPS
from jowa_jax.models import ficc
from jowa_jax.models.ficc import FiccNetwork, Networks, Watched
from jowa_jax.models.frame_stack import stack_frames
from jowa_jax.types import FRAME_SHAPE, Params, Segment

# Change of a pixel, as a share of its range, that counts as motion.
MOTION = 0.06


@dataclasses.dataclass(frozen=True)
class FiccLosses:
  """Weights and variants of the losses.

  Those of watching are the authors' program's, but for `masked_l1`; those of Q
  are JOWA's second stage's.

  Attributes:
    steps: of a window; the stacks before the first are read with it.
    l1_weight: of the mean size of states.
    masked_l1: whether it leaves padding out; in the program it does not.
    commitment: weight that pulls latents to their codes.
    finest_only: whether changes at coarser scales are left out.
    shift: pixels that a stack is moved by at most, either way, while it is
      watched; edges are repeated.
    intensity: standard deviation of the factor that its pixels are multiplied
      by, beyond two of which is cut.
    shared_shift: whether all stacks of a window are moved alike, so that a
      camera's shake is no action.
    world_weight: of the loss of watching, as augmented, beside that of Q.
    cql_weight: see `JowaLosses`.
    backup: see `JowaLosses`.
    target_period: steps between copies of what Q is trained towards.
  """

  steps: int = 6
  l1_weight: float = 0.01
  masked_l1: bool = True
  commitment: float = 1.0
  finest_only: bool = False
  shift: int = 4
  intensity: float = 0.05
  shared_shift: bool = False
  world_weight: float = 0.0
  cql_weight: float = 0.1
  backup: str = 'max'
  target_period: int = 1000

  def __post_init__(self):
    if self.steps < 2:
      raise ValueError(
        f'losses.steps={self.steps}: an action lies between 2 states'
      )
    for name in ('l1_weight', 'shift', 'intensity', 'world_weight'):
      if getattr(self, name) < 0:
        raise ValueError(f'losses.{name}={getattr(self, name)} is negative')
    if self.backup not in BACKUPS:
      raise ValueError(f'losses.backup={self.backup!r} is not in {BACKUPS}')
    if self.target_period < 1:
      raise ValueError(f'losses.target_period={self.target_period} is not >= 1')


def stacks_of(segments: Segment) -> chex.Array:
  """The stacks of a segment's steps, [T, B, 84, 84, 4] float32 in [0, 1]."""
  stacks = stack_frames(
    segments.observations, segments.mask, history=ficc.STACK - 1
  )
  return jnp.moveaxis(stacks, 1, 0).astype(jnp.float32) / 255


def with_loss(steps: chex.Array) -> chex.Array:
  """What a segment has at the steps that have stacks: [T, B, ...]."""
  return jnp.moveaxis(steps[:, ficc.STACK - 1 :], 1, 0)


def augmented(
  config: FiccLosses, stacks: chex.Array, key: chex.PRNGKey
) -> chex.Array:
  """Stacks moved, and made brighter or darker, each by a draw of its own.

  Args:
    config: how far.
    stacks: [T, B, 84, 84, 4] in [0, 1].
    key: of the draws.
  """
  keys, (steps, rows) = jax.random.split(key), stacks.shape[:2]
  drawn = 1 if config.shared_shift else steps
  shifts = jax.random.randint(
    keys[0], (drawn, rows, 2), 0, 2 * config.shift + 1
  )
  shifts = jnp.broadcast_to(shifts, (steps, rows, 2))
  pad = (config.shift, config.shift)
  edges = jnp.pad(stacks, ((0, 0), (0, 0), pad, pad, (0, 0)), mode='edge')

  def crop(stack, shift):
    return lax.dynamic_slice(
      stack, (shift[0], shift[1], 0), (*FRAME_SHAPE, ficc.STACK)
    )

  moved = jax.vmap(jax.vmap(crop))(edges, shifts)
  noise = jax.random.normal(keys[1], (steps, rows, 1, 1, 1))
  return moved * (1 + config.intensity * jnp.clip(noise, -2, 2))


def on_canvas(stacks: chex.Array) -> chex.Array:
  """The last frames of stacks, zeros around them, [T, B, 96, 96]."""
  edge = (ficc.CANVAS - FRAME_SHAPE[0]) // 2
  return jnp.pad(stacks[..., -1], ((0, 0), (0, 0), (edge, edge), (edge, edge)))


def watching_terms(
  config: FiccLosses, watched: Watched, frames: chex.Array, mask: chex.Array
) -> tuple[chex.Array, Metrics]:
  """The loss of watching, and its terms: means over B, sums over T.

  Args:
    config: weights.
    watched: what the networks made of B windows of T steps.
    frames: [T, B, 96, 96] in [0, 1], to be drawn.
    mask: [T, B] bool, steps that are real.
  """
  over = dict(in_axes=1, out_axes=1)
  mask = mask.astype(jnp.float32)
  pairs = mask[1:] * mask[:-1]

  def summed(values, mask):
    return (values * mask).mean(axis=1).sum()

  drawn = jax.vmap(losses_lib.frame_loss, **over)(watched.frames, frames)
  changed = jax.vmap(
    lambda logits, frames: losses_lib.change_loss(
      logits, frames, config.finest_only
    ),
    **over,
  )(watched.changes, frames)
  cycle = jax.vmap(losses_lib.cycle_loss, **over)(
    watched.predicted, watched.targets
  )
  codes = jax.vmap(
    lambda latents, rows: losses_lib.code_loss(
      latents, rows, config.commitment
    ),
    **over,
  )(watched.latents, watched.rows)
  size = jnp.abs(watched.unrolled.astype(jnp.float32)).mean((2, 3, 4))
  kept = mask[1:] if config.masked_l1 else jnp.ones_like(mask[1:])
  terms = {
    'watching/frames': summed(drawn, mask),
    'watching/changes': summed(changed, pairs),
    'watching/cycle': summed(cycle, pairs),
    'watching/codes': summed(codes, pairs),
    'watching/size': (size[0].mean() + masked_mean(size[1:], kept)) / 2,
  }
  frames, changes, cycles, codes, l1 = terms.values()
  # Divided by all steps, though changes and cycles have one less: so it is in
  # the program, and it fixes their weights.
  total = (frames + changes + cycles) / len(mask)
  return total + codes + config.l1_weight * l1, terms


def watching_loss(
  networks: Networks,
  config: FiccLosses,
  params: dict[str, Params],
  segments: Segment,
  key: chex.PRNGKey | None = None,
) -> tuple[chex.Array, Watched, Metrics, Params]:
  """(loss, what was made of segments, metrics, running statistics).

  Args:
    networks: sizes.
    config: weights.
    params: of the networks.
    segments: without their actions and rewards.
    key: of augmentation, with norms by the batch; None for neither.
  """
  stacks, mask = stacks_of(segments), with_loss(segments.mask)
  # The first stack twice, as a state and as where the unrolling starts.
  read = jnp.concatenate([stacks, stacks[:1]])
  if key is not None:
    read = augmented(config, read, key)
  watched, statistics = ficc.run_and_note(
    networks, params, 'watch', read[:-1], read[-1], key is not None
  )
  loss, metrics = watching_terms(config, watched, on_canvas(stacks), mask)
  pairs = mask[1:] & mask[:-1]
  metrics |= code_usage(networks.config, watched.codes, pairs)
  return loss, watched, metrics, statistics


def code_usage(
  config: FiccNetwork, codes: chex.Array, mask: chex.Array
) -> Metrics:
  """How many latent actions are in use, evenly or not, of codes [T, B]."""
  counts = jnp.zeros(config.num_codes).at[codes].add(mask.astype(jnp.float32))
  return {
    'latent/used': (counts > 0).mean(),
    'latent/perplexity': tells.perplexity(counts),
  }


def counted(
  num_codes: int,
  task: chex.Array,
  actions: chex.Array,
  codes: chex.Array,
  mask: chex.Array,
) -> chex.Array:
  """How often actions of games were told as codes, [60, A, K] float32.

  Args:
    num_codes: K.
    task: [...] int32.
    actions: [...] int32.
    codes: [...] int32.
    mask: [...] bool, those that count.
  """
  shape = (games.NUM_TASKS, games.NUM_ACTIONS, num_codes)
  weights = mask.astype(jnp.float32)
  return jnp.zeros(shape).at[task, actions, codes].add(weights)


def chosen_codes(counts: chex.Array) -> chex.Array:
  """The most frequent code of every action of every game, [G, A] int32.

  Of equals the first; of actions that were never seen, the game's.

  Args:
    counts: [G, A, K].
  """
  of_game = jnp.argmax(counts.sum(axis=1), axis=-1, keepdims=True)
  seen = counts.sum(axis=-1) > 0
  return jnp.where(seen, jnp.argmax(counts, axis=-1), of_game).astype(jnp.int32)


def sight(watched: Watched, frames: chex.Array, mask: chex.Array) -> Metrics:
  """How well the frame after the first is foreseen, where pixels move.

  Beside it the error of taking it for the first one; squared errors of pixels
  in [0, 1].

  Args:
    watched: what the networks made of windows.
    frames: [T, B, 96, 96], the truth.
    mask: [T, B] bool, steps that are real.
  """
  moving = jnp.abs(frames[1] - frames[0]) > MOTION
  moving &= (mask[0] & mask[1])[:, None, None]
  foreseen = jax.nn.sigmoid(watched.frames[1])
  return {
    'frames/moving_error': masked_mean(
      jnp.square(foreseen - frames[1]), moving
    ),
    'frames/copy_error': masked_mean(jnp.square(frames[0] - frames[1]), moving),
  }


def purity(counts: chex.Array) -> Metrics:
  """How well codes tell actions apart, of counts [G, A, K]."""
  found, chance = tells.purity(counts)
  return {'latent/purity': found, 'latent/purity_of_chance': chance}


def agreement(
  num_codes: int,
  task: chex.Array,
  actions: chex.Array,
  codes: chex.Array,
  mask: chex.Array,
) -> Metrics:
  """How well codes tell actions, beside chance; see `counted` for arguments.

  `latent/information_of_chance` is that of the same codes and the same actions,
  shuffled within each game: what so few transitions seem to tell.
  """
  counts = counted(num_codes, task, actions, codes, mask)
  tasks, acted, coded, kept = (
    each.reshape(-1) for each in (task, actions, codes, mask)
  )
  others = tells.shuffled_within(jax.random.key(0), tasks, acted, kept)
  chance = counted(num_codes, tasks, others, coded, kept)
  return {
    **purity(counts),
    'latent/information': tells.mutual_information(counts),
    'latent/information_of_chance': tells.mutual_information(chance),
  }
