"""How agents are scored: `configs/evaluate.py:paper|sticky|released_150m...`.

`paper` is the protocol of the paper (section 5.1, appendix E.3) with the beam
widths of its Table 17. `sticky` is the same with sticky actions, the field's
standard against agents that play from memory (Machado et al., 2018).
`released_40m`, `released_70m` and `released_150m` have the settings and the
longer episodes that the authors' released scores were made with.
"""

from ml_collections import ConfigDict

# Beam widths (Table 17).
_PAPER_WIDTHS = dict(
  Assault=2,
  Atlantis=3,
  BeamRider=2,
  Berzerk=4,
  Carnival=2,
  Centipede=4,
  ChopperCommand=4,
  DemonAttack=2,
  NameThisGame=2,
  Phoenix=2,
  Seaquest=3,
  SpaceInvaders=2,
  StarGunner=3,
  TimePilot=3,
  Zaxxon=3,
)

# Beam widths that the released scores differ in from Table 17.
_RELEASED_WIDTHS = _PAPER_WIDTHS | dict(Seaquest=4, TimePilot=4, Zaxxon=4)

# Blocks of context that the released scores were made with, for the models of
# 40, 70 and 150 million parameters.
_RELEASED_CONTEXTS = dict(
  Assault=(3, 5, 4),
  Atlantis=(4, 2, 2),
  BeamRider=(5, 2, 6),
  Berzerk=(6, 1, 1),
  Carnival=(2, 5, 4),
  Centipede=(1, 1, 6),
  ChopperCommand=(1, 4, 2),
  DemonAttack=(3, 3, 3),
  NameThisGame=(2, 2, 3),
  Phoenix=(2, 1, 2),
  Seaquest=(2, 6, 6),
  SpaceInvaders=(2, 3, 2),
  StarGunner=(1, 6, 2),
  TimePilot=(6, 6, 2),
  Zaxxon=(2, 6, 2),
)
_RELEASED_SIZES = ('40m', '70m', '150m')
_NAMES = ('paper', 'sticky', *(f'released_{size}' for size in _RELEASED_SIZES))


def get_config(name: str = 'paper') -> ConfigDict:
  """The config of a protocol.

  Raises:
    ValueError: there is no such protocol.
  """
  if name not in _NAMES:
    raise ValueError(f'Unknown protocol {name!r}; there are {_NAMES}')
  config = ConfigDict()
  released = name.startswith('released_')
  config.protocol = ConfigDict(
    dict(
      rollouts=16,  # complete episodes per game
      epsilon=0.001,  # chance of a random legal action
      sticky_actions=0.25 if name == 'sticky' else 0.0,
      # Emulator frames; the released scores allow as many decisions.
      max_frames=432_000 if released else 108_000,
      frame_skip=4,
      noop_max=0,
      use_fire_reset=False,
    )
  )
  # What the planner is told in a game; what is not named in it, or is none of
  # the planner's options, is left to the policy.
  widths = _RELEASED_WIDTHS if released else _PAPER_WIDTHS
  config.games = ConfigDict()
  for game, width in widths.items():
    config.games[game] = ConfigDict(dict(width=width, horizon=2))
    if released:
      lengths = _RELEASED_CONTEXTS[game]
      index = _RELEASED_SIZES.index(name.removeprefix('released_'))
      config.games[game].context_length = lengths[index]
  return config.lock()
