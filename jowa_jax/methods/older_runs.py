"""What was recorded of the methods of runs before all of it was.

Digests that were written then still say which runs are the same, see
`train.identity.run_digest`.
"""

from collections.abc import Mapping
from typing import Any

# The sections that were recorded, and the fields that came later, with the
# values that change nothing: with these it is as without the field.
_SECTIONS = (
  *('method', 'tokenizer', 'backbone', 'heads', 'losses'),
  *('adaptation', 'imagination'),
)
_LATER = {
  'tokenizer': {'encoder_field': 'frame'},
  'losses': {'backup': 'max', 'hide_actions': 0.0},
}


def recorded_sections(config: Mapping[str, Any]) -> dict[str, Any]:
  """The sections of a config that were recorded, later fields left out."""
  kept = {name: config[name] for name in _SECTIONS if name in config}
  for name, fields in _LATER.items():
    if name in kept:
      kept[name] = {
        key: value
        for key, value in kept[name].items()
        if key not in fields or value != fields[key]
      }
  # MTBC's came later.
  if not kept.get('losses', True):
    del kept['losses']
  return kept
