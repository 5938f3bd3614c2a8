"""The deployed model at work: raw transactions in; risk, tier, action and reasons out; in files, one by one, over HTTP.

`door` treats raw rows as ingest does, `scorer` computes features and decides, `journal` keeps what was learnt through
crashes, `live` puts these together for payments that come in one by one; `files`, `stream` and `rest` are the three
ways in.
"""
