"""The groups of commands that `fraudlab.cli` puts together, a module each; light to import, as `cli` is."""
