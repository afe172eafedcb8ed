"""How much of every checkpoint the recordings of these tests hold."""

# Decisions; random games of Carnival are over within 450.
STEPS = 500
