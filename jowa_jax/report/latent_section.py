"""What latent actions mean, as tables of a page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jowa_jax.report import numerals

_FIGURES = (
  ('transitions', 'Transitions', 0),
  ('perplexity', 'Latent actions in use, were they used evenly', 1),
  ('purity', 'Real actions told', 3),
  ('purity_of_chance', 'by the most frequent one alone', 3),
  ('information', 'Information on the real action, nats', 3),
  ('information_of_chance', 'of shuffled ones', 3),
)
_FIELDS = {name for name, _, _ in _FIGURES} | {'used', 'actions', 'counts'}


def check(path: str, found: Mapping[str, Any]) -> None:
  """Raises ValueError if a file does not hold what `eval.latents` writes."""
  for game, table in found.items():
    if not isinstance(table, dict) or not set(table) >= _FIELDS:
      raise ValueError(
        f'{path}: {game!r} should have {", ".join(sorted(_FIELDS))}'
      )
    counts = np.array(table['counts'])
    if counts.ndim != 2 or len(counts) != len(table['actions']):
      raise ValueError(f'{path}: {game!r} needs a row of counts per action')


def section(found: Mapping[str, Any]) -> list[dict[str, Any]]:
  """For every game its figures, and a row for every latent action in use.

  Args:
    found: of `eval.latents.judge`.
  """
  return [
    {
      'game': game,
      'figures': [
        (title, numerals.number(table[name], digits))
        for name, title, digits in _FIGURES
      ],
      'actions': table['actions'],
      'rows': _rows(np.array(table['counts'])),
      'unused': _unused(np.array(table['counts'])),
    }
    for game, table in found.items()
  ]


def _rows(counts: np.ndarray) -> list[dict[str, Any]]:
  """The latent actions of counts [A, K] that were told, the usual first."""
  of_code, rows = counts.sum(axis=0), []
  for code in np.argsort(-of_code, kind='stable'):
    if not of_code[code]:
      break
    shares = counts[:, code] / of_code[code]
    rows.append(
      {
        'code': int(code),
        'share': _percent(of_code[code] / counts.sum()),
        'cells': [(_percent(x), bool(x == shares.max())) for x in shares],
      }
    )
  return rows


def _unused(counts: np.ndarray) -> int:
  return int((counts.sum(axis=0) == 0).sum())


def _percent(share: float) -> str:
  return f'{100 * share:.0f} %' if share else ''
