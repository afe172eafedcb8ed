"""One HTML page that shows what a run learned."""

from jowa_jax.report.html import write_report

__all__ = ['write_report']
