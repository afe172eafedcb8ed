"""The tables and the page of a study, beside what was published."""
