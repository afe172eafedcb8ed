"""How parameters lie on a mesh, where a config says nothing else."""

# Mesh axes by a parameter's logical axis, in order of preference.
RULES = {
  'embed': ('fsdp', 'tensor'),
  'heads': ('tensor', 'fsdp'),
  'mlp': ('tensor', 'fsdp'),
  'vocab': ('tensor', 'fsdp'),
  'atoms': ('tensor', 'fsdp'),
  'channels': ('fsdp', 'tensor'),
}
