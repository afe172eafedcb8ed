"""The flags of scripts that act are the methods' options."""

import pytest
from absl import flags

from launch import planner_flags


@pytest.fixture
def given():
  """Sets flags for one test."""
  saved = flags.FLAGS.flag_values_dict()
  was_parsed = flags.FLAGS.is_parsed()

  def give(*arguments):
    flags.FLAGS(['test', *arguments])

  yield give
  for name in planner_flags._FLAGS:
    flags.FLAGS[name].value = saved[name]
  if not was_parsed:
    flags.FLAGS.unparse_flags()


def test_flags_are_those_of_the_methods(given):
  assert list(planner_flags._FLAGS) == [
    *('planner', 'context_length', 'width', 'path_score', 'horizon'),
    *('num_simulations', 'temperature', 'choose_by'),
    *('sampling', 'kappa', 'return_samples', 'return_inverse_temperature'),
    *('action_inverse_temperature', 'action_percentile'),
    *('history_stride', 'return_percentile', 'assumed_return', 'greedy'),
  ]
  given('--planner=mcts', '--temperature=0.5', '--choose_by=visits')
  assert planner_flags.planner_options('runs/x') == {
    'planner': 'mcts',
    'temperature': 0.5,
    'choose_by': 'visits',
  }


def test_nothing_given_is_nothing(given):
  given()
  assert planner_flags.planner_options(None) == {}


def test_errors_name_flags(given):
  given('--width=4')
  with pytest.raises(ValueError, match='--width=4 needs --planner=beam, not'):
    planner_flags.planner_options('runs/x')


def test_random_play_has_no_options(given):
  given('--context_length=2')
  with pytest.raises(ValueError, match='--context_length needs a --checkpoint'):
    planner_flags.planner_options(None)
