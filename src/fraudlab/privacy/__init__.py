"""Protecting customers: keys, treatments, the encrypted vault, and the search for what should not be there."""
