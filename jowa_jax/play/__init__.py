"""Stepping inside: the world model in a browser, and as an environment."""

import gymnasium

gymnasium.register(
  id='jowa/Dream-v0',
  entry_point='jowa_jax.play.dreams:make',
  vector_entry_point='jowa_jax.play.dreams:make_vector',
)
