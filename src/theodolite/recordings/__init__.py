"""Tables and figures of the user's own trainings, from what a recorder wrote down. Imports no torch."""
