"""What is measured ends up in the files of which the report is made."""

import json
from types import SimpleNamespace

import numpy as np

from jowa_jax.eval import quality_report
from jowa_jax.eval.findings import Dreams, Reconstructions
from jowa_jax.report.inputs import read_inputs


def test_all_figures_of_a_game_are_in_one_table(tmp_path, monkeypatch):
  frames = np.zeros((2, 84, 84), np.uint8)
  seen = ({'perplexity': 3.0}, Reconstructions(frames, frames, frames[0]))
  dreamed = ({'token_accuracy': 0.5}, Dreams(frames[None], frames[None]))
  quality = SimpleNamespace(
    reconstruct=lambda *args: {'Pong': seen, 'Assault': seen},
    # The episodes of Assault are too short to dream on from.
    dream=lambda *args, **options: {'Pong': dreamed},
  )
  foreseen = {'token_flicker_share': 0.25}
  both = {'Pong': foreseen, 'Assault': foreseen}
  monkeypatch.setattr(quality_report, 'quality', quality)
  monkeypatch.setattr(quality_report, 'one_step', lambda *args: both)
  monkeypatch.setattr(quality_report, 'open_loop', lambda *args, **options: {})
  quality_report.judge(None, [None], None, tmp_path)
  table = json.loads((tmp_path / 'model_quality.json').read_text())
  assert table == {
    'Pong': {
      'perplexity': 3,
      'token_flicker_share': 0.25,
      'token_accuracy': 0.5,
    },
    'Assault': {'perplexity': 3, 'token_flicker_share': 0.25},
  }
  assert read_inputs(pictures=tmp_path).quality == table
