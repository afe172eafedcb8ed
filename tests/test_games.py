import json
import pathlib

import ale_py
import numpy as np
import pytest
from ale_py import roms

from jowa_jax import games
from jowa_jax.envs import ale

PARITY = pathlib.Path(__file__).parent / 'data' / 'parity' / 'meta.json'


@pytest.fixture(scope='module')
def minimal_sets():
  """Every game's minimal action set, asked of the emulator."""
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  sets = {}
  for game in games.GAMES:
    ale.loadROM(roms.get_rom_path(games.rom_id(game)))
    sets[game] = tuple(action.value for action in ale.getMinimalActionSet())
  return sets


def test_actions_are_ales_minimal_sets(minimal_sets):
  assert minimal_sets == games.LEGAL_ACTIONS


def test_action_names_are_ales():
  names = [ale_py.Action(i).name for i in range(games.NUM_ACTIONS)]
  assert names == games.ACTION_NAMES


def test_task_ids_follow_the_alphabet_and_the_released_program():
  assert list(games.GAMES) == sorted(games.GAMES)
  assert games.NUM_TASKS == 60
  assert list(games.GAMES) == json.loads(PARITY.read_text())['game_names']
  assert [games.task_id(game) for game in games.GAMES] == list(range(60))
  assert games.task_id('Zaxxon') == 59


def test_legal_mask():
  mask = games.legal_mask()
  assert mask.shape == (60, 18) and mask.dtype == bool
  for game, actions in games.LEGAL_ACTIONS.items():
    np.testing.assert_array_equal(
      np.flatnonzero(mask[games.task_id(game)]), sorted(actions)
    )
  assert mask[games.task_id('Atlantis')].sum() == 4


def test_game_lists():
  assert len(games.PRETRAIN_GAMES) == 15
  assert len(games.HELD_OUT_GAMES) == 5
  assert len(games.ABLATION_GAMES) == 6
  assert not set(games.PRETRAIN_GAMES) & set(games.HELD_OUT_GAMES)
  assert set(games.ABLATION_GAMES) < set(games.PRETRAIN_GAMES)
  assert len(games.SCALED_QL_GAMES) == 40
  assert len(games.SCALED_QL_HELD_OUT_GAMES) == 5
  assert not set(games.SCALED_QL_GAMES) & set(games.SCALED_QL_HELD_OUT_GAMES)
  assert not {'Berzerk', 'RoadRunner'} & set(games.SCALED_QL_GAMES)
  for names in games.GAME_LISTS.values():
    assert len(set(names)) == len(names)
    assert set(names) <= set(games.GAMES)
  for game in games.PRETRAIN_GAMES + games.HELD_OUT_GAMES:
    assert game in games.REFERENCE_SCORES


def test_related_games_are_pretrained_and_allow_the_same_actions():
  assert games.RELATED_GAMES == {
    'Robotank': 'Phoenix',
    'YarsRevenge': 'ChopperCommand',
    'Gravitar': 'TimePilot',
    'MsPacman': 'Berzerk',
  }
  assert set(games.RELATED_GAMES) == set(games.HELD_OUT_GAMES) - {'Pong'}
  assert set(games.RELATED_GAMES.values()) <= set(games.PRETRAIN_GAMES)


def test_rom_ids():
  assert games.rom_id('Assault') == 'assault'
  assert games.rom_id('SpaceInvaders') == 'space_invaders'
  assert games.rom_id('UpNDown') == 'up_n_down'


def test_parse_games():
  assert games.parse_games('ablation') == games.ABLATION_GAMES
  assert games.parse_games('Pong, Zaxxon,Pong') == ('Pong', 'Zaxxon')
  assert games.parse_games(['Zaxxon', 'held_out'])[:2] == ('Zaxxon', 'Pong')
  assert games.parse_games("('Pong', 'Zaxxon')") == ('Pong', 'Zaxxon')
  assert games.parse_games("['Pong']") == ('Pong',)
  assert games.parse_games(('Pong,Zaxxon',)) == ('Pong', 'Zaxxon')
  assert len(games.parse_games('all')) == 60
  with pytest.raises(ValueError, match='No game given'):
    games.parse_games('')


@pytest.mark.parametrize(
  'written, game',
  [
    ('ALE/Pong-v5', 'Pong'),
    ('PongNoFrameskip-v4', 'Pong'),
    ('SpaceInvadersDeterministic-v0', 'SpaceInvaders'),
    ('Ms. Pacman', 'MsPacman'),
    ('ms_pacman', 'MsPacman'),
    ('Q*bert', 'Qbert'),
    ("Up 'n Down", 'UpNDown'),
    ('kung-fu master', 'KungFuMaster'),
    ('H.E.R.O.', 'Hero'),
  ],
)
def test_games_as_people_write_them(written, game):
  assert games.parse_games([written]) == (game,)
  with pytest.raises(ValueError, match=f'did you mean {game!r}'):
    games.check_game(written)


def test_variants_as_people_write_them():
  found = games.parse_games('freeway@m1d0,Pong,pretrain', variants=True)
  assert found[:2] == ('Freeway@m1d0', 'Pong') and len(found) == 17
  with pytest.raises(ValueError, match='no variant of Pong: write Pong@m1'):
    games.parse_games('pong@hard', variants=True)
  with pytest.raises(ValueError, match="Unknown game 'Freeway@m1'"):
    games.parse_games('Freeway@m1')
  # Nobody's scores are those of a variant.
  assert games.has_reference('Freeway')
  assert not games.has_reference('Freeway@m1d0')


def test_no_two_games_are_written_alike():
  assert len(games.parse_games([game.upper() for game in games.GAMES])) == 60


@pytest.mark.parametrize(
  ('game', 'score', 'reference', 'expected'),
  [
    # Assault: random 222.4, human 742.0, dqn 1525.2.
    ('Assault', 222.4, 'human', 0.0),
    ('Assault', 742.0, 'human', 1.0),
    ('Assault', 1261.6, 'human', 2.0),
    ('Assault', 1525.2, 'dqn', 1.0),
    # YarsRevenge: random 3092.9, human 54576.9.
    ('YarsRevenge', 28834.9, 'human', 0.5),
    ('Pong', -20.7, 'dqn', 0.0),
  ],
)
def test_normalized_score(game, score, reference, expected):
  actual = games.normalized_score(game, score, reference)
  assert actual == pytest.approx(expected, abs=1e-9)


def test_dqn_normalisation_where_dqn_is_below_random(monkeypatch):
  scores = games.ReferenceScore(random=100.0, human=300.0, dqn=60.0)
  monkeypatch.setitem(games.REFERENCE_SCORES, 'Skiing', scores)
  assert games.normalized_score('Skiing', 60, 'dqn') == 0
  assert games.normalized_score('Skiing', 70, 'dqn') == pytest.approx(0.25)
  assert games.normalized_score('Skiing', 100, 'dqn') == 1
  # The human-normalised score still starts at random.
  assert games.normalized_score('Skiing', 60) == pytest.approx(-0.2)


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match="'pong': did you mean 'Pong'"):
    games.task_id('pong')
  with pytest.raises(ValueError, match="Unknown game 'Chess': one of"):
    games.parse_games('Chess')
  with pytest.raises(ValueError, match='AirRaid has no reference scores'):
    games.normalized_score('AirRaid', 1)
  with pytest.raises(ValueError, match='RoadRunner has no score of DQN'):
    games.normalized_score('RoadRunner', 1, 'dqn')
  assert games.has_reference('RoadRunner')
  assert not games.has_reference('RoadRunner', 'dqn')
  with pytest.raises(ValueError, match="reference is 'best'"):
    games.normalized_score('Pong', 1, 'best')


def test_lists_of_variants():
  assert games.parse_games('scaled_ql_variants', variants=True) == (
    *('Freeway@m1d0', 'Hero@m1d0', 'Breakout@m12d0'),
  )
  with pytest.raises(ValueError, match='is a list of variants, Freeway@m1d0'):
    games.parse_games('scaled_ql_variants')
  for names in games.VARIANT_LISTS.values():
    for name in names:
      modes, difficulties = ale.switches(games.parse_variant(name).game)
      assert games.parse_variant(name).mode in modes
      assert games.parse_variant(name).difficulty in difficulties
