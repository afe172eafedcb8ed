"""Sizes of the published models (JOWA, Tables 10 and 12)."""

# Backbone layers, width and heads; Q heads and their width.
SIZES = {
  '40m': dict(layers=4, width=512, heads=8, num_q=1, q_width=768),
  '70m': dict(layers=6, width=768, heads=12, num_q=1, q_width=1024),
  '150m': dict(layers=12, width=768, heads=12, num_q=3, q_width=1792),
  # Larger than any that was published, to see what a pod would hold.
  '1b': dict(layers=24, width=1792, heads=28, num_q=3, q_width=3584),
  # Small enough for a test; nothing is learned with it.
  'smoke': dict(layers=2, width=32, heads=2, num_q=1, q_width=32),
}
