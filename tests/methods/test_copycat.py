"""How a batch is divided into segments whose actions are hidden, and others."""

import jax
import numpy as np
import pytest

from jowa_jax.methods.copycat import count_hidden, hide_actions


@pytest.mark.parametrize(
  ('share', 'rows', 'hidden'),
  [
    (0.0, 1, 0),
    (1.0, 1, 1),
    (0.75, 32, 24),
    # Rounding would hide both, or none.
    (0.75, 2, 1),
    (0.9, 4, 3),
    (0.1, 4, 1),
  ],
)
def test_of_a_share_some_are_hidden_and_some_are_not(share, rows, hidden):
  assert count_hidden(share, rows) == hidden
  _, found = hide_actions(share, np.zeros((rows, 3), int), jax.random.key(0))
  assert np.asarray(found).sum() == hidden


def test_one_segment_cannot_be_divided():
  with pytest.raises(ValueError, match='hide_actions=0.75.*run.batch_size'):
    count_hidden(0.75, 1)
