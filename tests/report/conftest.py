import dataclasses
import json

import numpy as np
import pytest

from jowa_jax.envs.protocol import Protocol
from jowa_jax.envs.vector import AtariEnvs
from jowa_jax.eval import records
from jowa_jax.eval import rollout as rollout_lib

GAMES = ('Assault', 'Carnival')


@pytest.fixture(scope='session')
def played():
  """Real rollouts of random play, and frames of each game, [60, 84, 84]."""
  rollouts = rollout_lib.evaluate(
    rollout_lib.random_policy(),
    None,
    GAMES,
    Protocol(rollouts=3, max_frames=400),
    0,
    agent='random',
    progress=False,
    num_threads=1,
  )
  envs = AtariEnvs(GAMES, 1, num_threads=1)
  fire = np.array([1, 1])
  frames = [envs.reset(0).frames]
  frames += [envs.step(fire)[0].frames for _ in range(59)]
  return rollouts, dict(zip(GAMES, np.stack(frames, axis=1), strict=True))


def write_metrics(path, stages, held_out=()):
  """Writes a line every 10 steps: stages are (name, first, last, metrics)."""
  lines = []
  for stage, first, last, names in stages:
    for step in range(first, last + 1, 10):
      record = {'step': step, 'stage': stage}
      record |= {name: 1 / step for name in names}
      record |= {f'held_out/{name}': 2 / step for name in held_out}
      lines.append(json.dumps(record))
  path.write_text('\n'.join(lines) + '\n')


@pytest.fixture
def workdir(tmp_path, played):
  """A complete work directory, small but of real frames and rollouts."""
  rollouts, frames = played
  root = tmp_path / 'run'
  for folder in ('jowa', 'mtbc', 'eval'):
    (root / folder).mkdir(parents=True)
  write_metrics(
    root / 'jowa' / 'metrics.jsonl',
    [
      ('world', 10, 100, ('loss', 'world/observations')),
      ('joint', 110, 300, ('loss', 'world/observations', 'q/td')),
    ],
    held_out=('world/observations',),
  )
  write_metrics(
    root / 'mtbc' / 'metrics.jsonl',
    [('cloning', 10, 200, ('policy/accuracy', 'mood/of_the_day'))],
  )
  for method in ('jowa', 'mtbc'):
    config = {'model': {'width': 64}, 'games': GAMES, 'learning_rate': 1e-3}
    config['method'] = method
    config['run'] = {'best_metric': 'mood/of_the_day', 'best_mode': 'max'}
    (root / method / 'config.json').write_text(json.dumps(config))
  for agent in ('random', 'data', 'mtbc', 'jowa', 'jowa_beam'):
    records.write_rollouts(
      root / 'eval' / f'{agent}.jsonl',
      [dataclasses.replace(r, agent=agent) for r in rollouts],
    )
  reconstructions, dreams = {}, {}
  for game, seen in frames.items():
    reconstructions[f'{game}/frames'] = seen[::6]
    reconstructions[f'{game}/reconstructions'] = seen[::6] // 2
    reconstructions[f'{game}/median'] = np.median(seen, 0).astype(np.uint8)
    dreams[f'{game}/real'] = seen[:24].reshape(4, 6, 84, 84)
    dreams[f'{game}/reconstructed'] = dreams[f'{game}/real'] // 2
    dreams[f'{game}/dreamed'] = seen[1:25].reshape(4, 6, 84, 84)
  np.savez(root / 'eval' / 'reconstructions.npz', **reconstructions)
  np.savez(root / 'eval' / 'dreams.npz', **dreams)
  quality = {'perplexity': 71.4, 'odd_measure': 0.25}
  (root / 'eval' / 'model_quality.json').write_text(
    json.dumps({'Assault': quality, 'Carnival': {'perplexity': 68.0}})
  )
  curves = {'token_accuracy': [0.9, 0.8], 'copy_token_accuracy': [0.7, 0.6]}
  curves |= {'nonzero_reward_recall': [None, 0.5], 'strange': [1.0, 1.0]}
  (root / 'eval' / 'open_loop.json').write_text(json.dumps({'Pong': curves}))
  (root / 'timings.json').write_text('{"collect": 90.5, "train": 600}')
  (root / 'versions.json').write_text('{"jax": "0.10.2"}')
  return root
