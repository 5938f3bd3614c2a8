"""The live page of a scorer at work: what it did within the hour, whether the model still fits, the newest alerts.

`lights` judges the newest scores, `page` says it all in a browser, `metrics` to Prometheus. The page shows what
`scoring.figures` keeps and the newest monitoring report; neither knows a customer.
"""

from fraudlab.dashboard.page import AtWork, pages_of
from fraudlab.dashboard.serving import served

__all__ = ["AtWork", "pages_of", "served"]
