"""Explanation of answers, and checks of the model against patients and literature."""
