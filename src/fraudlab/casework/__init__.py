"""Case work: which customers' payments investigators should look at, one sheet per case, and the way back.

The champion scores what the vault holds for the purpose "fraud-detection"; the cases it finds are kept beside the data
set, encrypted, for the purpose "case-investigation". What leaves (a queue, a sheet) carries short codes only; outcomes
come back as dated labels (`fraudlab.datasets.labelling`).
"""
