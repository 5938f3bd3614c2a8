"""The deployed model at work: raw transactions in; risk, tier, action and reasons out; in files, one by one, over HTTP.

`door` treats raw rows as ingest does, `scorer` computes features and decides, `live` does so for payments that come in
one by one and keeps what was learnt through crashes (`fraudlab.privacy.journal`), `rights` lets go of customers who may
no longer be remembered; `files`, `stream` and `rest` are the three ways in.
"""
