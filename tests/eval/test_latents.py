"""What latent actions mean is told, shown and followed."""

import dataclasses
import json
from types import SimpleNamespace

import av
import jax.numpy as jnp
import numpy as np
import pytest

from jowa_jax import games
from jowa_jax.data.episodes import Episode, encode_png
from jowa_jax.eval import latents
from jowa_jax.methods.base import BatchSpec, LatentActions
from jowa_jax.report import latent_section, write_report
from jowa_jax.report.latent_film import write_film


def make_episode(length, number=0):
  rng = np.random.default_rng(number)
  frame = encode_png(np.zeros((84, 84), np.uint8))
  return Episode(
    game='Freeway',
    task=games.task_id('Freeway'),
    run=1,
    checkpoint=0,
    episode_id=number,
    frames=[frame] * length,
    actions=rng.choice(games.LEGAL_ACTIONS['Freeway'], length).astype(np.uint8),
    rewards=np.zeros(length, np.int8),
    score=0.0,
    terminated=True,
    digest=b'',
  )


def told(variables, segments):
  """Action a is told as code a % 2, of all steps but the last."""
  del variables
  counts = jnp.zeros((games.NUM_TASKS, games.NUM_ACTIONS, 3))
  mask = segments.mask[:, :-1] & segments.mask[:, 1:]
  actions = segments.actions[:, :-1]
  task = jnp.broadcast_to(segments.task[:, None], actions.shape)
  return counts.at[task, actions, actions % 2].add(mask * 1.0)


def agent_of(length=4):
  """Brighter by as much as the number of a latent action."""

  def follow(variables, memory, chosen):
    frames = memory + variables * chosen[:, None, None].astype(jnp.uint8)
    return frames, frames

  method = SimpleNamespace(
    spec=BatchSpec(length),
    latents=LatentActions(
      count=3,
      stack=4,
      told=told,
      remember=lambda variables, stack: stack[:, -1],
      follow=follow,
    ),
  )
  return SimpleNamespace(
    method=method, variables=jnp.uint8(1), config={'method': 'watcher'}
  )


def test_a_table_of_actions_and_codes(tmp_path):
  episodes = [make_episode(9), make_episode(42, number=1)]
  found = latents.judge(agent_of(), episodes, tmp_path)
  assert json.loads((tmp_path / latents.LATENTS).read_text()) == found
  (table,) = found.values()
  # Within segments of four: 9 = 4 + 4 + 1, 42 = 10 * 4 + 2.
  assert table['transitions'] == 3 + 3 + 0 + 10 * 3 + 1
  kept = np.concatenate(
    [
      episode.actions[t : t + 4][:-1]
      for episode in episodes
      for t in range(0, len(episode), 4)
    ]
  )
  names, counts = np.unique(kept, return_counts=True)
  assert table['actions'] == [games.ACTION_NAMES[name] for name in names]
  for name, count, row in zip(names, counts, table['counts'], strict=True):
    assert row[name % 2] == count and sum(row) == count
  assert table['used'] == pytest.approx(2 / 3)
  of_codes = [max(counts[names % 2 == code]) for code in (0, 1)]
  assert table['purity'] == pytest.approx(sum(of_codes) / sum(counts))
  assert table['purity_of_chance'] == pytest.approx(max(counts) / sum(counts))
  shares = [sum(counts[names % 2 == code]) / sum(counts) for code in (0, 1)]
  entropy = -sum(share * np.log(share) for share in shares)
  # The code follows from the action: it has all of the code's own information.
  assert table['information'] == pytest.approx(entropy, rel=1e-4)
  assert table['information_of_chance'] < 0.6 * entropy


def test_what_cannot_be_judged(tmp_path):
  with pytest.raises(ValueError, match='held_out_fraction'):
    latents.judge(agent_of(), [], tmp_path)
  episode = dataclasses.replace(make_episode(5), missing=('actions', 'rewards'))
  with pytest.raises(ValueError, match="'actions', and this was made of vid"):
    latents.judge(agent_of(), [episode], tmp_path)
  agent = agent_of()
  agent.method.latents = None
  with pytest.raises(ValueError, match='watcher has no latent actions'):
    latents.judge(agent, [episode], tmp_path)


def test_the_page_has_the_table(tmp_path):
  table = {
    'transitions': 1200,
    'used': 0.5,
    'perplexity': 1.9,
    'purity': 0.75,
    'purity_of_chance': 0.5,
    'information': 0.3,
    'information_of_chance': 0.01,
    'actions': ['NOOP', 'UP'],
    'counts': [[0, 300, 0, 300], [0, 0, 0, 600]],
  }
  (section,) = latent_section.section({'Freeway': table})
  assert section['unused'] == 2
  assert section['rows'] == [
    {'code': 3, 'share': '75 %', 'cells': [('33 %', False), ('67 %', True)]},
    {'code': 1, 'share': '25 %', 'cells': [('100 %', True), ('', False)]},
  ]
  path = tmp_path / latents.LATENTS
  path.write_text(json.dumps({'Freeway': table}))
  page = write_report(output=tmp_path / 'index.html', pictures=tmp_path)
  text = page.read_text()
  assert 'id="latents"' in text and 'Never told: 2' in text
  assert '<strong>67 %</strong>' in text and '0.750' in text
  del table['counts']
  path.write_text(json.dumps({'Freeway': table}))
  with pytest.raises(ValueError, match='latent_actions.json: .Freeway. should'):
    write_report(output=tmp_path / 'index.html', pictures=tmp_path)


def test_choices_are_followed_and_filmed(tmp_path):
  frames = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones(
    (84, 84), np.uint8
  )
  choices = np.array([[0, 0], [1, 2], [2, 2]])
  found = latents.follow(agent_of(), frames, choices)
  np.testing.assert_array_equal(found[..., 0, 0], [[5, 5], [6, 8], [7, 9]])
  with pytest.raises(ValueError, match='has those from 0 to 2'):
    latents.follow(agent_of(), frames, np.array([[3]]))
  path = tmp_path / 'film.mp4'
  assert write_film(path, 'title', frames, choices, found) == 8
  with av.open(str(path)) as container:
    assert len(list(container.decode(video=0))) == 8
  with pytest.raises(ValueError, match='must end in .mp4'):
    write_film('film.gif', 'title', frames, choices, found)
