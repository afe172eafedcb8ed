"""Everything in one go, from recorded play to a page, as a config says."""

from jowa_jax.recipes.quickstart.phases import quickstart

__all__ = ['quickstart']
