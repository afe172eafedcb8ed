"""Evaluations that are killed, resumed and shared come to the same scores."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest

from configs import evaluate as config_lib
from jowa_jax import games
from jowa_jax.envs import ale
from jowa_jax.envs.protocol import Protocol
from jowa_jax.eval import evaluation, records
from jowa_jax.eval.evaluation import Shard
from jowa_jax.eval.players import game_options, load_player, random_player
from jowa_jax.methods.jowa_policy import JowaActing
from jowa_jax.methods.mtbc import MtbcActing

ROOT = pathlib.Path(__file__).parents[2]
GAMES = ('Assault', 'Carnival')
SHORT = Protocol(rollouts=3, max_frames=120, sticky_actions=0.25)


def without_seconds(rollouts):
  return {
    (r.game, r.rollout): dataclasses.replace(r, seconds=0.0) for r in rollouts
  }


def run(output, protocol=SHORT, player=None, seed=0, **how):
  return evaluation.play(
    player or random_player('random'),
    GAMES,
    protocol,
    seed,
    output,
    progress=False,
    **how,
  )


@pytest.mark.slow
def test_records_say_what_they_depend_on(tmp_path):
  rollouts = run(tmp_path / 'random.jsonl', slots_per_game=2)
  assert [(r.game, r.rollout) for r in rollouts] == [
    (game, n) for game in GAMES for n in range(3)
  ]
  assert rollouts[0].setup == {
    'method': 'random',
    'rollouts': 3,
    'options': {},
    'protocol': {
      'epsilon': 0.001,
      'sticky_actions': 0.25,
      'max_frames': 120,
      'frame_skip': 4,
      'noop_max': 0,
      'use_fire_reset': False,
    },
    'seed': 0,
    'environments': 4,
    'devices': [1, 'cpu'],
    'shrinks': False,
    'rom': ale.rom_checksum(GAMES[0]),
  }


@pytest.mark.slow
def test_other_cartridges_are_another_evaluation(tmp_path):
  for game in GAMES:
    rom = bytearray(ale.rom_path(game).read_bytes())
    rom[1000] ^= 1
    (tmp_path / f'{games.rom_id(game)}.bin').write_bytes(rom)
  path = tmp_path / 'random.jsonl'
  played = run(path, rom_directory=tmp_path)
  assert played[0].setup['rom'] == ale.rom_checksum(GAMES[0], tmp_path)
  with pytest.raises(records.RecordError, match='rom: was '):
    run(path)
  # Records of before this was asked about may be gone on with.
  for rollout in played:
    del rollout.setup['rom']
  path.unlink()
  records.write_rollouts(path, played)
  assert run(path) == played


@pytest.mark.slow
def test_more_rollouts_go_on_from_fewer(tmp_path):
  path = tmp_path / 'random.jsonl'
  how = dict(slots_per_game=1)
  few = run(path, dataclasses.replace(SHORT, rollouts=1), **how)
  size = path.stat().st_size
  more = run(path, **how)
  assert path.read_text()[:size].count('\n') == 2
  assert {r for r in map(str, few)} <= {r for r in map(str, more)}
  assert run(path, **how) == more
  fresh = run(tmp_path / 'fresh.jsonl', **how)
  assert without_seconds(fresh).keys() == without_seconds(more).keys()
  for key, rollout in without_seconds(fresh).items():
    other = without_seconds(more)[key]
    # How many there were to be does not matter.
    assert dataclasses.replace(other, setup=rollout.setup) == rollout


@pytest.mark.slow
def test_shards_play_what_one_evaluation_plays(tmp_path):
  how = dict(slots_per_game=1)
  whole = run(tmp_path / 'random.jsonl', **how)
  parts = []
  for index in (1, 2):
    shard = Shard.parse(f'{index}/2')
    parts += run(tmp_path / 'parts' / 'random.jsonl', shard=shard, **how)
  names = sorted(p.name for p in (tmp_path / 'parts').iterdir())
  assert names == ['random.1of2.jsonl', 'random.2of2.jsonl']
  assert without_seconds(records.merge(parts)) == without_seconds(whole)


@pytest.mark.parametrize('text', ['0/2', '3/2', '1', 'a/b', '1/0'])
def test_a_shard_that_is_none(text):
  with pytest.raises(ValueError, match='--shard='):
    Shard.parse(text)


def test_numbers_that_cannot_be(tmp_path):
  for how in (dict(slots_per_game=0), dict(slots_per_game=4), dict(seed=2**31)):
    with pytest.raises(ValueError, match='slots_per_game=|seed='):
      run(tmp_path / 'x.jsonl', **how)
  options = dict.fromkeys(GAMES, {'epsilon': 0.5})
  with pytest.raises(ValueError, match="epsilon is the protocol's"):
    run(tmp_path / 'x.jsonl', options=options)
  with pytest.raises(ValueError, match='--step=3 needs'):
    load_player('random', None, 3)
  assert not list(tmp_path.iterdir())


def test_more_shards_than_rollouts(tmp_path):
  with pytest.raises(ValueError, match='at most 3 shards'):
    run(tmp_path / 'x.jsonl', shard=Shard(4, 4))
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_another_seed_or_batch_is_refused(tmp_path):
  run(tmp_path / 'random.jsonl')
  with pytest.raises(records.RecordError, match='shrinks: was False, now True'):
    run(tmp_path / 'random.jsonl', shrink=True)
  with pytest.raises(records.RecordError, match='seed: was 0, now 1'):
    run(tmp_path / 'random.jsonl', seed=1)


def test_games_of_the_same_settings_share_batches():
  options = {
    'Assault': {'width': 2},
    'Berzerk': {'width': 4},
    'Carnival': {'width': 2},
    'Pong': {'width': 2},
  }
  batches = evaluation.make_batches(list(options), options, 2)
  assert batches == [
    (('Assault', 'Carnival'), {'width': 2}),
    (('Pong',), {'width': 2}),
    (('Berzerk',), {'width': 4}),
  ]


def test_settings_by_game():
  config = config_lib.get_config('released_150m').games.to_dict()
  options = game_options(
    ('Seaquest', 'Pong'), {'planner': 'beam'}, config, JowaActing
  )
  assert options == {
    'Seaquest': {
      'planner': 'beam',
      'width': 4,
      'horizon': 2,
      'context_length': 6,
    },
    'Pong': {'planner': 'beam'},
  }
  # What is given holds for all games; a greedy policy has a context alone.
  options = game_options(
    ('Seaquest',), {'planner': 'beam', 'width': 3}, config, JowaActing
  )
  assert options['Seaquest']['width'] == 3
  # A variant is played as its game.
  variant = game_options(('Seaquest@m0d1',), {}, config, JowaActing)
  options = game_options(('Seaquest',), {}, config, JowaActing)
  assert variant == {'Seaquest@m0d1': options['Seaquest']}
  assert options == {'Seaquest': {'context_length': 6}}
  with pytest.raises(ValueError, match='games.Pong.planner'):
    game_options(('Pong',), {}, {'Pong': {'planner': 'beam'}}, JowaActing)
  # A cloner reads nothing of a planner's.
  options = game_options(('Seaquest',), {}, config, MtbcActing)
  assert options == {'Seaquest': {'context_length': 6}}
  with pytest.raises(ValueError, match='games.Pong.widht'):
    game_options(('Pong',), {}, {'Pong': {'widht': 2}}, JowaActing)
  with pytest.raises(ValueError, match='Unknown game'):
    game_options(('Pong',), {}, {'Pongg': {'width': 2}}, JowaActing)


PLANNED = dict(planner='beam', width=2, horizon=1, context_length=1)


@pytest.mark.slow
def test_an_interrupted_evaluation_ends_as_if_nothing_had_happened(
  finished, tmp_path, caplog, monkeypatch
):
  """Planning, with more rollouts than slots."""
  protocol = Protocol(rollouts=4, max_frames=120)
  how = dict(options=dict.fromkeys(GAMES, PLANNED), slots_per_game=2)
  player = load_player('jowa', str(finished.workdir))
  with jax.log_compiles():
    whole = run(tmp_path / 'whole.jsonl', protocol, player, **how)
  # Slots that take their next rollouts, and idle ones, compile nothing.
  assert caplog.text.count('Compiling jit(act)') == 1
  evaluate = evaluation.rollout.evaluate

  def interrupted(*arguments, on_rollout, **options):
    def append(rollout):
      on_rollout(rollout)
      if rollout.game == 'Carnival':
        raise KeyboardInterrupt

    return evaluate(*arguments, on_rollout=append, **options)

  path = tmp_path / 'interrupted.jsonl'
  with monkeypatch.context() as patch:
    patch.setattr(evaluation.rollout, 'evaluate', interrupted)
    with pytest.raises(KeyboardInterrupt):
      run(path, protocol, player, **how)
  kept = records.read_rollouts(path)
  assert 0 < len(kept) < len(whole)
  resumed = run(path, protocol, player, **how)
  assert without_seconds(resumed) == without_seconds(whole)
  assert records.read_rollouts(path)[: len(kept)] == kept


@pytest.mark.slow
def test_a_killed_evaluation_ends_as_if_nothing_had_happened(
  finished, tmp_path
):
  """By SIGKILL, while `launch.evaluate` runs."""
  protocol = Protocol(rollouts=4, max_frames=200)
  how = dict(options=dict.fromkeys(GAMES, PLANNED), slots_per_game=2)
  player = load_player('jowa', str(finished.workdir))
  whole = run(tmp_path / 'whole' / 'jowa.jsonl', protocol, player, **how)
  path = tmp_path / 'killed' / 'jowa.jsonl'
  killed = subprocess.Popen(
    [
      sys.executable,
      '-m',
      'launch.evaluate',
      f'--checkpoint={finished.workdir}',
      f'--games={",".join(GAMES)}',
      f'--output={path}',
      '--rollouts=4',
      '--slots=2',
      '--config.protocol.max_frames=200',
      *(f'--{name}={value}' for name, value in PLANNED.items()),
    ],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      # As here, and not one for each core.
      'JAX_NUM_CPU_DEVICES': str(jax.local_device_count()),
    },
    stderr=subprocess.PIPE,
    text=True,
  )
  deadline = time.monotonic() + 240
  while not path.exists() or not path.read_text().count('\n'):
    assert killed.poll() is None, killed.stderr.read()[-3000:]
    assert time.monotonic() < deadline
    time.sleep(0.01)
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  kept = records.read_rollouts(path)
  assert 0 < len(kept) < len(whole)
  resumed = run(path, protocol, player, **how)
  assert without_seconds(resumed) == without_seconds(whole)
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(lines) == len(whole)
  assert [line['rollout'] for line in lines[: len(kept)]] == [
    r.rollout for r in kept
  ]
