"""What policies can be told: each method's options are a dataclass.

The flags of scripts, the settings of games in a protocol, and the words under
a film are made of these; nothing outside the methods names an option.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Self


def option(default: Any, text: str, choices: Collection[str] = ()) -> Any:
  """A field of an `Acting` that is a flag of scripts that act.

  Args:
    default: where nothing is given.
    text: of the flag, a sentence.
    choices: values that a string can have; any if empty.
  """
  metadata = {'flag': text, 'choices': tuple(choices)}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Acting:
  """How a policy acts; a method's own options are fields of a subclass.

  A value that cannot be is a ValueError; it names fields as `name=value`.

  Attributes:
    epsilon: share of random legal actions; a protocol says it.
  """

  epsilon: float = 0.001

  @classmethod
  def of(cls, options: Mapping[str, Any]) -> Self:
    """The acting of some options.

    Raises:
      TypeError: there is no such option.
      ValueError: a value cannot be.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(options.keys() - set(known)):
      raise TypeError(f'There is no option {unknown[0]!r}, but {known}')
    return cls(**options)

  @classmethod
  def names(cls) -> frozenset[str]:
    """The options that a game can have of its own."""
    return frozenset(f.name for f in dataclasses.fields(cls)) - {'epsilon'}

  @classmethod
  def read_beside(cls, given: Mapping[str, Any]) -> frozenset[str]:
    """Which of `names` are read where `given` options are given."""
    del given
    return cls.names()

  @property
  def words(self) -> tuple[str, ...]:
    """How it acts, to be shown: such as 'beam search' and 'width 2'."""
    return ()
