"""FICC watches, maps actions, learns Q and acts, as every method does."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jowa_jax
from jowa_jax import games
from jowa_jax.bench import train as bench
from jowa_jax.methods import ficc as method_lib
from jowa_jax.methods import ficc_losses
from jowa_jax.methods.base import Aux
from jowa_jax.methods.factory import make_method
from jowa_jax.methods.ficc import latent_actions
from jowa_jax.methods.ficc_losses import FiccLosses
from jowa_jax.train.run import Run
from tests.data_pipeline.sources import test_video
from tests.methods import cycle
from tests.models import random_params
from tests.train import helpers

GAMES = cycle.GAMES
STAGES = ('watching', 'action_map', 'q')


def config_of(data, **changes):
  config = helpers.CONFIGS['ficc'].get_config('smoke')
  config = config.copy_and_resolve_references().to_dict()
  helpers.change(
    config,
    **{
      'data__directory': str(data),
      'data__games': GAMES,
      'data__held_out_fraction': 0.3,
      'run__batch_size': 4,
      'run__log_every': 1,
      'run__save_every': 4,
      'run__evaluate_every': 4,
      'losses__target_period': 3,
      **changes,
    },
  )
  return json.loads(json.dumps(config))


@pytest.fixture(scope='module')
def trained(atari_data_dir, tmp_path_factory):
  """The directory of a run."""
  workdir = tmp_path_factory.mktemp('ficc') / 'run'
  config = config_of(atari_data_dir, run__save_every=20)
  Run(config, workdir).train(progress=False)
  return workdir


@pytest.mark.slow
def test_it_watches_maps_and_learns(trained):
  records = helpers.read_metrics(trained)
  assert [record['step'] for record in records] == [*range(1, 21)]
  watching = [r['loss/watching'] for r in records if 'loss/watching' in r]
  assert len(watching) == 8 and np.mean(watching[-2:]) < watching[0]
  # 1e-5 of the authors' rate after none of the steps, all of it after one.
  np.testing.assert_allclose(records[0]['lr/watching'], 1e-5, rtol=1e-5)
  np.testing.assert_allclose(records[1]['lr/watching'], 0.02, rtol=1e-5)
  np.testing.assert_allclose(records[7]['lr/watching'], 2e-4, rtol=1e-5)
  assert 'latent/purity' in records[9] and 'q/td' in records[-1]
  last = records[-1]
  assert last['held_out/frames/copy_error'] > 0
  assert 0 <= last['held_out/latent/purity_of_chance'] <= 1
  assert last['held_out/latent/perplexity'] >= 1

  variables = jowa_jax.load(trained).variables
  counts = np.asarray(variables.params['action_codes']['counts'])
  played = [games.GAMES.index(game) for game in GAMES]
  # Four steps of four windows with two transitions each, at most.
  assert 0 < counts.sum() <= 4 * 4 * 2
  assert counts.sum() == counts[played].sum()
  statistics = variables.params['statistics']
  assert np.abs(statistics['encoder']['norm']['mean']).max() > 0


@pytest.mark.slow
def test_watching_reads_neither_actions_nor_rewards():
  config = config_of('data')
  method = make_method(config)
  segment = bench.batch(method, 2)
  shapes = nn.meta.unbox(helpers.abstract_variables(config))
  variables = shapes.replace(
    params=random_params.fill(shapes.params),
    targets=random_params.fill(shapes.targets),
  )
  loss = method.objectives['watching'].loss

  @jax.jit
  def value(segment):
    return loss(variables, segment, jax.random.key(1), 0)[0]

  hidden = segment.replace(
    actions=jnp.zeros_like(segment.actions),
    rewards=jnp.zeros_like(segment.rewards),
  )
  assert np.isfinite(value(segment)) and value(segment) == value(hidden)


@pytest.mark.slow
def test_it_acts(trained):
  agent = jowa_jax.load(trained)
  frames = np.random.default_rng(0).integers(0, 256, (2, 84, 84), np.uint8)
  agent.begin(GAMES, epsilon=0.0)
  actions = agent.act(frames)
  for game, action in zip(GAMES, actions, strict=True):
    assert action in games.LEGAL_ACTIONS[game]
  with pytest.raises(TypeError, match='planner'):
    agent.begin(GAMES, planner='beam')


@pytest.mark.slow
def test_augmentation():
  stacks = jnp.ones((3, 2, 84, 84, 4))
  config = FiccLosses(shift=2, intensity=0.1)
  found = ficc_losses.augmented(config, stacks, jax.random.key(0))
  # Each stack has a brightness of its own, the same everywhere in it.
  np.testing.assert_allclose(found.std((2, 3, 4)), np.zeros((3, 2)), atol=1e-6)
  factors = np.asarray(found[..., 0, 0, 0])
  assert len(np.unique(factors)) > 3  # but for what is cut
  assert np.abs(factors - 1).max() <= 0.2 + 1e-6

  ramp = jnp.broadcast_to(jnp.arange(84.0)[:, None, None], (84, 84, 4))
  stacks = jnp.broadcast_to(ramp, (4, 2, 84, 84, 4))
  alike = FiccLosses(shift=3, intensity=0.0, shared_shift=True)
  found = np.asarray(ficc_losses.augmented(alike, stacks, jax.random.key(1)))
  np.testing.assert_array_equal(found, np.broadcast_to(found[:1], found.shape))
  # Moved by whole pixels, edges repeated.
  steps = found[0, :, 40, 0, 0] - 40
  assert (np.abs(steps) <= 3).all() and (steps == np.round(steps)).all()
  assert found.min() >= 0 and found.max() <= 83


def test_the_map_is_the_counted_code_and_what_was_learned():
  counts = np.zeros((60, 18, 3), np.float32)
  counts[5, 2, 1] = 4
  counts[5, 2, 2] = 1
  counts[5, 7, 2] = 9
  offset = np.zeros((60, 18, 2), np.float32)
  offset[5, 2] = [0.5, -0.5]
  codes = jnp.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
  found = latent_actions(
    {
      'action_codes': {'counts': counts},
      'action_map': {'offset': offset},
      'inverse': {'codes': codes},
    }
  )
  np.testing.assert_allclose(found[5, 2], [1.5, 1.5])
  np.testing.assert_allclose(found[5, 7], [3, 4])
  # Never seen: the game's most frequent one; no game: the first one.
  np.testing.assert_allclose(found[5, 0], [3, 4])
  np.testing.assert_allclose(found[6, 0], [0, 0])


def test_purity():
  counts = np.zeros((2, 3, 2))
  # Of one game code 0 is always action 0, code 1 one of two.
  counts[0] = [[4, 0], [0, 3], [0, 1]]
  counts[1] = [[0, 2], [0, 0], [0, 0]]
  found = ficc_losses.purity(jnp.asarray(counts))
  np.testing.assert_allclose(found['latent/purity'], (4 + 3 + 2) / 10)
  np.testing.assert_allclose(
    found['latent/purity_of_chance'], (4 + 2) / 10, rtol=1e-6
  )


@pytest.mark.slow
def test_targets_are_copied_as_q_begins_and_now_and_then():
  config = config_of('data')
  method = make_method(config)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    nn.meta.unbox(helpers.abstract_variables(config)),
  )
  moved = zeros.replace(params=jax.tree.map(lambda x: x + 1, zeros.params))

  def largest(tree):
    return max(float(leaf.max()) for leaf in jax.tree.leaves(tree))

  assert largest(method.begin_stage(moved, ('watching',), ()).targets) == 0
  assert largest(method.begin_stage(moved, ('q',), ()).targets) == 1
  carry = Aux({}, {}).carry
  assert largest(method.after_update(moved, carry, 2).targets) == 0
  assert largest(method.after_update(moved, carry, 3).targets) == 1


def test_q_can_go_on_watching():
  config = config_of('data', losses__world_weight=0.1)
  plain = make_method(config_of('data')).objectives['q']
  objective = make_method(config).objectives['q']
  assert plain.params == ('encoder', 'q_head')
  assert set(objective.params) == {*method_lib.VIDEO, 'q_head'}
  assert objective.flops['encoder'] > plain.flops['encoder']


@pytest.mark.slow
def test_it_is_evaluated_and_told_of(trained, tmp_path):
  cycle.launch(
    'evaluate',
    *(f'--checkpoint={trained}', '--games=Assault', '--rollouts=2'),
    *('--config.protocol.max_frames=80', '--noprogress'),
    f'--output={tmp_path}/ficc.jsonl',
  )
  assert len((tmp_path / 'ficc.jsonl').read_text().splitlines()) == 2
  page = cycle.launch(
    'report',
    *(f'--results={tmp_path}/ficc.jsonl', f'--runs={trained}'),
    f'--output={tmp_path}/index.html',
  ).strip()
  text = open(page).read()
  assert '<h4>Watching' in text and '<h4>Latent actions' in text


@pytest.mark.slow
def test_it_is_finetuned(trained, atari_data_dir, tmp_path):
  done = cycle.launch(
    'finetune',
    '--config=configs/finetune.py:ficc_quickstart',
    *('--game=Carnival', f'--data={atari_data_dir}'),
    *(f'--checkpoint={trained}', f'--workdir={tmp_path}/run', '--noprogress'),
    '--config.stages.finetune.steps=4',
    *('--config.run.save_every=2', '--config.run.log_every=2'),
    *('--config.run.play_every=2', '--config.run.play_max_frames=80'),
    *('--config.run.batch_size=4', '--config.data.transitions=50'),
  )
  assert 'play/Carnival: best' in done and 'launch.evaluate' in done
  before, after = jowa_jax.load(trained), jowa_jax.load(tmp_path / 'run')
  assert after.config['network'] == before.config['network']
  theirs = helpers.flat(before.variables.params)
  for path, value in helpers.flat(after.variables.params).items():
    if 'statistics' in path:
      continue
    # From there, and a few steps further.
    assert np.abs(value - theirs[path]).max() < 0.01, path
  # Statistics went on from what they were, by a hundredth a frame of a window:
  # by no more than if new variances were zero, and these are far below theirs.
  path = "['statistics']['encoder']['norm']['var']"
  now = np.asarray(helpers.flat(after.variables.params)[path])
  left = 0.99 ** (4 * after.method.spec.length)
  assert (left * theirs[path] <= now).all() and (now < theirs[path]).all()


class Interrupt(Exception):
  """As a lost machine is."""


@pytest.mark.slow
def test_an_interrupted_run_is_the_same_run(trained, atari_data_dir, tmp_path):
  def on_step(step):
    if step == 18:
      raise Interrupt

  config = config_of(atari_data_dir)
  with pytest.raises(Interrupt):
    Run(config, tmp_path).train(progress=False, on_step=on_step)
  variables = Run(config, tmp_path).train(progress=False)
  found = helpers.flat(variables.params)
  for path, value in helpers.flat(
    jowa_jax.load(trained).variables.params
  ).items():
    np.testing.assert_array_equal(found[path], value, err_msg=path)


def on_one_and_eight(data, output, **steps):
  """The records of a run on one device, and of the same on eight."""
  fields = cycle.as_flags(
    dict(
      data__directory=data,
      data__games=GAMES,
      run__batch_size=8,
      run__log_every=1,
      # Steps that throw the weights far amplify what rounding makes of a sum.
      stages__watching__watching__learning_rate=1e-3,
      stages__q__q__learning_rate=1e-4,
      stages__q__q__eps=1e-3,
      stages__action_map__action_map__eps=1e-3,
      **{f'stages__{name}__steps': count for name, count in steps.items()},
    )
  )
  for devices, axes in ((1, (1, 1, 1)), (8, (2, 2, 2))):
    cycle.launch(
      'train',
      '--config=configs/ficc.py:smoke',
      *fields,
      *(
        f'--config.mesh.axes.{name}={size}'
        for name, size in zip(('data', 'fsdp', 'tensor'), axes, strict=True)
      ),
      *(f'--workdir={output}/{devices}', '--noprogress'),
      devices=devices,
    )
  return [helpers.read_metrics(output / str(n)) for n in (1, 8)]


def check_alike(records, names, rtol):
  one, eight = records
  assert len(one) == len(eight)
  for ours, theirs in zip(eight, one, strict=True):
    found = [name for name in theirs if name.startswith(names)]
    assert found
    for name in found:
      np.testing.assert_allclose(
        ours[name], theirs[name], rtol=rtol, err_msg=f'{ours["step"]} {name}'
      )


@pytest.mark.slow
def test_eight_devices_train_the_same_agent(atari_data_dir, tmp_path):
  records = on_one_and_eight(
    atari_data_dir, tmp_path, watching=3, action_map=1, q=2
  )
  check_alike(records, ('loss/', 'gradient_norm/'), 1e-3)


@pytest.mark.slow
def test_eight_devices_begin_every_stage_alike(atari_data_dir, tmp_path):
  records = on_one_and_eight(
    atari_data_dir, tmp_path, watching=0, action_map=1, q=1
  )
  assert [record['stage'] for record in records[0]] == ['action_map', 'q']
  check_alike(records, ('loss/', 'gradient_norm/'), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('stage', STAGES)
def test_a_step_is_measured(atari_data_dir, stage):
  records = bench.run_config(config_of(atari_data_dir), seconds=0.01)
  (record,) = [each for each in records if each['stage'] == stage]
  assert record['step_seconds'] > 0 and record['model_flops'] > 0


@pytest.mark.slow
def test_it_watches_videos(tmp_path):
  frames = np.concatenate([test_video.pictures(40), test_video.pictures(30, 1)])
  test_video.write(tmp_path / 'a.mkv', frames)
  cycle.launch(
    'prepare_data',
    *('--source=video', f'--input={tmp_path}/a.mkv', '--games=Freeway'),
    *(f'--output={tmp_path}/data', '--noprogress'),
  )
  told = cycle.launch('inspect_data', f'--data={tmp_path}/data', '--verify')
  assert '70 transitions in 2 episodes' in told
  assert 'actions: not known' in told
  config = config_of(tmp_path / 'data', data__games=('Freeway',))
  config['stages'] = (
    helpers.CONFIGS['ficc'].get_config('smoke_watching').stages.to_dict()
  )
  run = Run(config, tmp_path / 'run')
  run.train(progress=False)
  last = helpers.read_metrics(tmp_path / 'run')[-1]
  assert last['held_out/frames/copy_error'] > 0
  assert not any(name.startswith('held_out/q/') for name in last)
  assert 'held_out/latent/purity' not in last


@pytest.mark.slow
def test_latent_actions_are_judged_and_filmed(trained, tmp_path):
  told = cycle.launch(
    'judge', f'--checkpoint={trained}', f'--output={tmp_path}'
  )
  assert 'Assault: latent actions tell ' in told and 'shuffled' in told
  table = json.loads((tmp_path / 'latent_actions.json').read_text())
  assert set(table) == set(GAMES) and table['Assault']['transitions'] > 20
  film = cycle.launch(
    'video',
    *(f'--checkpoint={trained}', '--game=Assault', '--latents=3,3,0'),
    *('--max_decisions=6', f'--output={tmp_path}/film.mp4'),
  )
  assert '9 pictures of Assault' in film
