"""What a run reads for its method."""

from jowa_jax.train.run import Run
from jowa_jax.types import OPTIONAL_FIELDS
from tests.train import helpers


def test_batches_have_the_fields_that_the_method_reads(
  atari_data_dir, tmp_path
):
  run = Run(helpers.tiny_config(atari_data_dir), tmp_path / 'run')
  plain = run.method.spec
  for fields in (plain.fields, OPTIONAL_FIELDS):
    run.method = run.method._replace(spec=plain._replace(fields=fields))
    (batch,) = run.load_data().batches(0, 1, put=lambda batch: batch)
    there = {name for name in OPTIONAL_FIELDS if batch[name] is not None}
    assert there == fields
