"""``results/``: entries that anyone may add, checked by ``check-results`` and shown by ``leaderboard``."""
