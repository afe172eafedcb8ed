"""Rollouts of given scores."""

from jowa_jax.eval.records import Rollout


def rollouts(agent, game, values, terminated=True, **setup):
  return [
    Rollout(
      agent=agent,
      game=game,
      rollout=i,
      seed=i,
      score=float(value),
      clipped_score=0.0,
      decisions=100 + i,
      frames=400,
      seconds=1.0,
      terminated=terminated,
      setup=setup,
    )
    for i, value in enumerate(values)
  ]
