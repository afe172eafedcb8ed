"""How many passes a trained model's dreams take, and how fast it then plays."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jowa_jax import agent as agent_lib
from jowa_jax import games as games_lib
from jowa_jax.bench.models import peak_bytes
from jowa_jax.methods.base import Policy, check_actions
from jowa_jax.methods.jowa_dreams import DECODERS


def measure(
  checkpoint: str,
  games: Sequence[str],
  decisions: int = 500,
  environments: int = 1,
  width: int = 2,
  horizon: int = 2,
  context_length: int | None = None,
  epsilon: float = 0.05,
  progress: bool = True,
) -> list[dict[str, Any]]:
  """Plays, and takes every decision with both decoders.

  Args:
    checkpoint: of a run that trained JOWA.
    games: that it learned.
    decisions: of every game, over its environments.
    environments: of every game; more than one differ by random actions.
    width: of the beam search.
    horizon: of the beam search, at least 1.
    context_length: see `Method.policy`.
    epsilon: share of random actions.
    progress: show a progress bar.

  Returns:
    A record for every game and decoder. `same_actions` and `same_tokens` are
    the shares on which the decoders agree; then come the mean passes of a
    frame, their 90th percentile over levels and decisions, the mean over
    decisions of the most that a frame took, and over levels of the most in the
    batch, which is how often the loop ran; all tokens that passes had to run
    over those of the frames, and `schedules`, which tells them by pass where a
    batch took so many; the shares of tokens and of frames
    that differ from the frame before, dreamed and real.

  Raises:
    ValueError: no emulator is installed, or the agent has no simulator.
  """
  if horizon < 1:
    raise ValueError(f'horizon={horizon} must be at least 1 to dream')
  try:
    import tqdm

    from jowa_jax.envs.vector import AtariEnvs
  except ImportError as error:
    raise ValueError(
      f'Playing real games needs what requirements.txt names: {error}'
    ) from error
  agent = agent_lib.load(checkpoint)
  search = agent.simulator.search(width, horizon)
  trained = set(games_lib.parse_games(agent.config['data']['games']))
  if strange := sorted(set(games) - trained):
    raise ValueError(f'{checkpoint} has not learned {", ".join(strange)}')
  policies = {
    decoder: agent.policy(
      **search,
      context_length=context_length,
      epsilon=epsilon,
      decoder=decoder,
    )
    for decoder in DECODERS
  }
  rounds = -(-decisions // environments)

  def turns(game: str) -> Iterable[int]:
    return tqdm.trange(rounds, desc=game, disable=not progress)

  setting = {
    'size': f'step {agent.step} of {checkpoint}',
    'environments': environments,
    'width': width,
    'horizon': horizon,
  }
  return [
    {**setting, **record}
    for game in games
    for record in _records(
      agent, policies, AtariEnvs([game], environments), turns(game)
    )
  ]


def _records(
  agent: agent_lib.Agent,
  policies: Mapping[str, Policy],
  envs: Any,
  rounds: Iterable[int],
) -> Iterator[dict[str, Any]]:
  """Plays one game's `AtariEnvs` with every decoder; yields each one's record.

  All see what the sequential one brings about.
  """
  state, step = policies['parallel'].init(envs.tasks), envs.reset(0)
  keys, seen = jax.random.split(jax.random.key(0), envs.num_envs), []
  seconds = {decoder: [] for decoder in policies}
  compiled = {
    decoder: policy.act.lower(agent.variables, state, step, keys).compile()
    for decoder, policy in policies.items()
  }
  for i in rounds:
    plans, states = {}, {}
    for decoder, act in compiled.items():
      begun = jax.block_until_ready(jax.tree.map(jnp.copy, state))
      start = time.perf_counter()
      actions, states[decoder], info = jax.block_until_ready(
        act(agent.variables, begun, step, _keys(keys, i))
      )
      seconds[decoder].append(time.perf_counter() - start)
      plans[decoder] = jax.device_get(info['plan'])
    state = states['sequential']
    seen.append(_compare(plans, np.asarray(state.seen), step.first))
    actions = check_actions(actions, envs.tasks)
    step, *_ = envs.step(actions, np.ones(envs.num_envs, bool))
  summary = _summary(seen)
  passes = {
    'parallel': summary.pop('passes'),
    'sequential': plans['sequential'].tokens.shape[-1] + 1.0,
  }
  for decoder, times in seconds.items():
    # The first calls warm up.
    rate = envs.num_envs / np.mean(times[min(2, len(times) - 1) :])
    yield {
      'decoder': decoder,
      'decisions_per_second': float(rate),
      'passes_per_frame': passes[decoder],
      'peak_bytes': peak_bytes(compiled[decoder]),
      'game': envs.games[0],
      'decisions': len(times) * envs.num_envs,
      **summary,
    }


@jax.jit
def _keys(keys, decision):
  return jax.vmap(jax.random.fold_in, (0, None))(keys, decision)


def _compare(plans, tokens, first) -> dict[str, np.ndarray]:
  """What one decision shows."""
  parallel, sequential = plans['parallel'], plans['sequential']
  frame, before = tokens[:, -1], tokens[:, -2]
  dreamed = parallel.tokens[:, 0, 0] != frame
  real = (frame != before)[~np.asarray(first)]
  return {
    'same_actions': parallel.action == sequential.action,
    'same_tokens': (parallel.tokens == sequential.tokens).reshape(-1),
    'passes': parallel.passes[..., 0].reshape(-1),
    'most': parallel.passes[..., 1].max(axis=1),
    'batch': parallel.passes[..., 1].max(axis=0),
    'runs': parallel.runs.sum(axis=0),
    'dreamed': dreamed.reshape(-1),
    'dreamed_frames': dreamed.any(axis=1),
    'real': real.reshape(-1),
    'real_frames': real.any(axis=1),
  }


def _summary(seen: list[dict[str, np.ndarray]]) -> dict[str, float]:
  joined = {k: np.concatenate([s[k] for s in seen]) for k in seen[0]}
  mean = {name: float(values.mean()) for name, values in joined.items()}
  runs = joined['runs']
  return {
    'same_actions': mean['same_actions'],
    'same_tokens': mean['same_tokens'],
    'passes': mean['passes'],
    'passes_90th_percentile': float(np.percentile(joined['passes'], 90)),
    'most_passes': mean['most'],
    'batch_passes': mean['batch'],
    'tokens_run': float(runs.sum() / runs[:, 0].sum()),
    'schedules': _schedules(runs),
    'changed_tokens_dreamed': mean['dreamed'],
    'changed_tokens_real': mean['real'],
    'changed_frames_dreamed': mean['dreamed_frames'],
    'changed_frames_real': mean['real_frames'],
  }


def _schedules(runs: np.ndarray) -> dict[str, list[float]]:
  """The schedules of `decode.parallel`, by their number of passes.

  Args:
    runs: [N, P] tokens that every pass over a batch of frames had to run.
  """
  passes, found = (runs > 0).sum(axis=1), {}
  for count in np.unique(passes):
    total = runs[passes == count].sum(axis=0)[:count]
    found[str(count)] = [round(float(x), 3) for x in total / total[0]]
  return found


def describe(records: Sequence[dict[str, Any]]) -> str:
  """The measurements as text."""
  lines = []
  for record in records:
    numbers = ', '.join(
      f'{name} {value:.3g}'
      for name, value in record.items()
      if isinstance(value, int | float)
    )
    lines.append(f'{record["game"]}, {record["decoder"]}: {numbers}')
    if record['decoder'] == 'parallel':
      lines += [
        f'  {count} passes: --schedule={",".join(map(str, shares))}'
        for count, shares in record['schedules'].items()
        if len(shares) <= 6
      ]
  return '\n'.join(lines)
