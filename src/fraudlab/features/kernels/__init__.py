"""The compiled part of the feature engine: plain arrays in, plain arrays out; nothing here knows a column's name.

`operations.run` is the one entry: it takes whole entities and a list of operations made by `fraudlab.features.plan`.
"""
